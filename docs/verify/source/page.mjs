// SPDX-License-Identifier: Apache-2.0
// The page's own part: reads the files and texts that a person gives, shows what the verifier says, in her language.
//
// Must never: ask for anything over a network, keep anything, write what was read as anything but text.

import { identify, isAbout, Refused, unbase64url, verifyEvidence, verifyReceipt, verifyRecord } from "../verify.mjs";
import { refusal, told } from "../words.mjs";

const TITLES = {
  record: { en: "The record", fr: "L'enregistrement" },
  promise: { en: "The promise", fr: "La promesse" },
  receipt: { en: "The receipt", fr: "Le reçu" },
};
const MISTAKES = {
  insecure: {
    en: "The browser gives no cryptography to this address: save the page and open it from the disk.",
    fr: "Le navigateur ne donne pas sa cryptographie à cette adresse : enregistrez la page et ouvrez-la depuis le disque.",
  },
  key: { en: "A key is missing, or is not one.", fr: "Une clé manque, ou n'en est pas une." },
  old: {
    en: "This browser does not know the signatures of logs (Ed25519); nothing is said about the receipt.",
    fr: "Ce navigateur ne connaît pas les signatures des registres de preuve (Ed25519) ; rien n'est dit du reçu.",
  },
};

class Mistake extends Error {} // a key that is none

const MEANT = { NotSupportedError: MISTAKES.old, TypeError: globalThis.crypto.subtle ? undefined : MISTAKES.insecure };

const field = (name) => document.getElementById(name);
const lines = (name) => field(name).value.split("\n").map((line) => line.trim()).filter((line) => line !== "");
let shown = [];

function key(text) {
  const found = unbase64url(text.replace(/\s/g, ""));
  if (found === null || found.length === 0) throw new Mistake();
  return found;
}

async function file(name) {
  const chosen = field(name).files[0];
  return chosen === undefined ? null : new Uint8Array(await chosen.arrayBuffer());
}

/** One of the three results: {kind, say(language), good, texts}. */
async function result(kind, check) {
  try {
    const { found, compared, texts } = await check();
    return { kind, good: true, texts: texts ?? [], say: (language) => told(language, kind, found, compared) };
  } catch (error) {
    if (error instanceof Refused) return { kind, good: false, texts: [], say: (language) => [refusal(language, error)] };
    const mistake = error instanceof Mistake ? MISTAKES.key : MEANT[error.name];
    if (mistake === undefined) throw error;
    return { kind, good: false, texts: [], say: (language) => [mistake[language]] };
  }
}

async function check() {
  const [value, promise, receipt] = [await file("record"), await file("promise"), await file("receipt")];
  const found = [
    await result("record", async () => {
      const pairs = lines("keys").map((line) => [line.slice(0, line.indexOf("=")), key(line.slice(line.indexOf("=") + 1))]);
      const record = await verifyRecord(value, key(field("sender").value), Object.fromEntries(pairs));
      const texts = Object.entries(record.opened).map(([name, text]) => [name, new TextDecoder().decode(text).trimEnd()]);
      return { found: record, texts };
    }),
  ];
  if (promise !== null) {
    found.push(
      await result("promise", async () => {
        const evidence = await verifyEvidence(promise, key(field("gateway").value), field("domain").value.trim());
        isAbout(evidence, await identify(value));
        return { found: evidence, compared: true };
      }),
    );
  }
  if (receipt !== null) {
    found.push(
      await result("receipt", async () => {
        const logged = await verifyReceipt(receipt, lines("vkeys"));
        isAbout(logged.entry, await identify(value));
        return { found: logged, compared: true };
      }),
    );
  }
  return found;
}

function element(name, text, parent) {
  const made = document.createElement(name);
  made.textContent = text;
  parent.append(made);
  return made;
}

function show() {
  const language = document.documentElement.lang;
  const typeset = (text) => (language === "fr" ? text.replace(/ ([:;!?»])/g, "\u00a0$1") : text);
  for (const button of document.querySelectorAll("button[data-language]"))
    button.setAttribute("aria-pressed", String(button.dataset.language === language));
  const place = field("found");
  place.replaceChildren();
  for (const { kind, good, say, texts } of shown) {
    const block = element("div", "", place);
    block.className = good ? "result" : "result refused";
    element("h2", TITLES[kind][language], block);
    const list = element("ul", "", block);
    for (const sentence of say(language)) element("li", typeset(sentence), list);
    for (const [name, text] of texts) {
      const opened = element("pre", text, block);
      opened.tabIndex = 0;
      opened.setAttribute("role", "region");
      opened.setAttribute("aria-label", name);
      opened.dir = "auto";
    }
  }
}

for (const button of document.querySelectorAll("button[data-language]")) {
  button.addEventListener("click", () => {
    document.documentElement.lang = button.dataset.language;
    show();
  });
}
document.querySelector("form").addEventListener("input", () => {
  shown = []; // what stands there was about other files
  show();
});
document.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  shown = await check();
  show();
});
document.documentElement.lang = navigator.language.startsWith("fr") ? "fr" : "en";
show();
