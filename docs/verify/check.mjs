// SPDX-License-Identifier: Apache-2.0
// The verifier for a terminal: reads files, prints sentences. Node.js 20 or newer, no package.
//
//   node check.mjs record RECORD PUBLIC-KEY [PART=KEY ...]
//   node check.mjs promise EVIDENCE PUBLIC-KEY DOMAIN [RECORD]
//   node check.mjs receipt RECEIPT RECORD VKEY [VKEY ...]
//   node check.mjs checkpoint CHECKPOINT VKEY [VKEY ...]
//
// RECORD, EVIDENCE, RECEIPT and CHECKPOINT are files; `-` in place of RECORD compares with none. Keys are texts, and you
// have them from somebody you trust, never from the file that you check. `--lang=fr` or `--lang=en`; `--show` prints the
// opened parts. Exit status: 0 valid, 1 refused, 2 called wrongly or not readable.

import { readFileSync } from "node:fs";
import { identify, isAbout, Refused, unbase64url } from "./verify.mjs";
import { verifyCheckpoint, verifyEvidence, verifyReceipt, verifyRecord } from "./verify.mjs";
import { refusal, told } from "./words.mjs";

const options = process.argv.slice(2).filter((argument) => argument.startsWith("--"));
const [command, ...rest] = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));
const chosen = options.find((option) => option.startsWith("--lang="))?.slice(7);
const french = (chosen ?? process.env.LC_ALL ?? process.env.LANG ?? "").startsWith("fr");
const language = french ? "fr" : "en";
const USAGE = {
  en: "Usage: see the first lines of check.mjs, or README.md beside it.",
  fr: "Utilisation : voir les premières lignes de check.mjs, ou LISEZ-MOI.md à côté.",
};

class Usage extends Error {}

function bytes(file) {
  try {
    return new Uint8Array(readFileSync(file));
  } catch {
    throw new Usage(french ? "Un fichier ne se lit pas." : "A file cannot be read.");
  }
}

function key(text) {
  const found = unbase64url(text ?? "");
  if (found === null || found.length === 0) throw new Usage(french ? "Une clé n'en est pas une." : "A key is none.");
  return found;
}

const compared = (file) => (file === undefined || file === "-" ? null : bytes(file));

async function run() {
  const [file, ...more] = rest;
  if (file === undefined || more.length === 0) throw new Usage(USAGE[language]);
  const data = bytes(file);
  if (command === "record") {
    const keys = Object.fromEntries(
      more.slice(1).map((pair) => [pair.slice(0, pair.indexOf("=")), key(pair.slice(pair.indexOf("=") + 1))]),
    );
    const found = await verifyRecord(data, key(more[0]), keys);
    const shown = options.includes("--show") ? Object.entries(found.opened) : [];
    const texts = shown.map(([name, text]) => `--- ${name}\n${new TextDecoder().decode(text).trimEnd()}`);
    return [...told(language, "record", found), ...texts];
  }
  if (command === "promise" && more.length >= 2) {
    const record = compared(more[2]);
    const found = await verifyEvidence(data, key(more[0]), more[1]);
    if (record !== null) isAbout(found, await identify(record));
    return told(language, "promise", found, record !== null);
  }
  if (command === "receipt" && more.length >= 2) {
    const record = compared(more[0]);
    const found = await verifyReceipt(data, more.slice(1));
    if (record !== null) isAbout(found.entry, await identify(record));
    return told(language, "receipt", found, record !== null);
  }
  if (command === "checkpoint") return told(language, "checkpoint", await verifyCheckpoint(data, more));
  throw new Usage(USAGE[language]);
}

/** Nothing that a terminal would obey. */
const harmless = (text) => text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, "\ufffd");

try {
  console.log((await run()).map(harmless).join("\n"));
} catch (error) {
  if (!(error instanceof Refused) && !(error instanceof Usage)) throw error;
  console.error(error instanceof Refused ? refusal(language, error) : error.message);
  process.exitCode = error instanceof Refused ? 1 : 2;
}
