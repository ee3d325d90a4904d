// SPDX-License-Identifier: Apache-2.0
// What the verifier says, in English and French: for `check.mjs` and the page. The titles of codes are the product's own.
//
// Must never: name a value of what was refused.

/** Code -> its title. */
export const CODES = {
  header_forbidden: {
    en: "The signature header has a member or value that is not allowed",
    fr: "L'en-tête de signature contient un membre ou une valeur interdite",
  },
  key_commitment_mismatch: {
    en: "The granted key is not the one that the sender committed to",
    fr: "La clé accordée n'est pas celle sur laquelle l'expéditeur s'est engagé",
  },
  log_inconsistent: {
    en: "Two views of the log contradict each other",
    fr: "Deux vues du journal se contredisent",
  },
  note_malformed: {
    en: "A checkpoint, a proof or a key is not in the form of its standard",
    fr: "Un point de contrôle, une preuve ou une clé n'a pas la forme de sa norme",
  },
  part_digest_mismatch: {
    en: "A sealed part is not the one that was signed",
    fr: "Une partie scellée n'est pas celle qui a été signée",
  },
  part_unopenable: {
    en: "A part cannot be opened with the key that was granted",
    fr: "Une partie ne s'ouvre pas avec la clé accordée",
  },
  record_malformed: {
    en: "The record does not have the shape of wire format 1",
    fr: "L'enregistrement n'a pas la forme du format 1",
  },
  record_rewritten: {
    en: "A record differs from what was logged",
    fr: "Un enregistrement diffère de ce qui a été journalisé",
  },
  root_mismatch: {
    en: "A Merkle root does not match the records",
    fr: "Une racine de Merkle ne correspond pas aux enregistrements",
  },
  signature_invalid: {
    en: "The signature does not verify",
    fr: "La signature n'est pas valide",
  },
  too_large: {
    en: "Larger than the limit",
    fr: "Dépasse la taille permise",
  },
  topic_mismatch: {
    en: "The record names another mailbox than the one it was put into",
    fr: "L'enregistrement nomme une autre boîte que celle où il se trouve",
  },
  version_unsupported: {
    en: "This version is not known here",
    fr: "Cette version n'est pas connue ici",
  },
};

/** Sentences with {places}. */
export const SENTENCES = {
  record: {
    en: "Valid: signed with the key {kid}, and its sealed parts are those that were signed.",
    fr: "Valide : signé avec la clé {kid}, et ses parties scellées sont celles qui ont été signées.",
  },
  route: {
    en: "From {iss} to {to}, mailbox {topic}, kind {kind}, the sender's number {seq} in that mailbox.",
    fr: "De {iss} à {to}, boîte {topic}, genre {kind}, numéro {seq} de l'expéditeur dans cette boîte.",
  },
  stated: {
    en: "The sender states {time}; only the log shows when it was there at the latest.",
    fr: "L'expéditeur indique {time} ; seul le registre de preuve montre à quel moment il existait au plus tard.",
  },
  digest: { en: "Digest: {digest}", fr: "Empreinte : {digest}" },
  sealed: { en: "Part {name}: sealed, not opened.", fr: "Partie {name} : scellée, non ouverte." },
  opened: {
    en: "Part {name}: opened with the key that the sender committed to.",
    fr: "Partie {name} : ouverte avec la clé sur laquelle l'expéditeur s'est engagé.",
  },
  promise: {
    en: "Valid: {iss} promised at {time} to log the record {evt} at {topic}, offset {offset}.",
    fr: "Valide : {iss} a promis, le {time}, d'inscrire l'enregistrement {evt} dans {topic}, position {offset}.",
  },
  receipt: {
    en: "Valid: entry {index} of {origin}, of kind {kind}, {topic}, offset {offset}, is under the root signed for {size} entries.",
    fr: "Valide : l'entrée {index} de {origin}, genre {kind}, {topic}, position {offset}, est sous la racine signée pour {size} entrées.",
  },
  refused: {
    en: "Attention: the log says that this record was refused ({detail}).",
    fr: "Attention : le registre de preuve dit que cet enregistrement a été refusé ({detail}).",
  },
  checkpoint: {
    en: "Valid: {origin} signed a root over {size} entries.",
    fr: "Valide : {origin} a signé une racine sur {size} entrées.",
  },
  cosigned: { en: "Seen by the witness {name} at {time}.", fr: "Vu par le témoin {name} le {time}." },
  alone: {
    en: "No witness whose key you gave has signed: the log alone says so.",
    fr: "Aucun témoin dont vous avez donné la clé n'a signé : le registre de preuve est seul à le dire.",
  },
  unchecked: {
    en: "Not checked here: the ML-DSA-44 signature of {name}, if it is one.",
    fr: "Non vérifié ici : la signature ML-DSA-44 de {name}, si c'en est une.",
  },
  about: {
    en: "It is about the record that you gave, byte for byte.",
    fr: "Il s'agit bien de l'enregistrement que vous avez donné, octet par octet.",
  },
  digestOnly: {
    en: "It is about the record that you gave, by what was signed.",
    fr: "Il s'agit bien de l'enregistrement que vous avez donné, d'après ce qui a été signé.",
  },
  no: { en: "Refused: {title} ({code}, {path}).", fr: "Refusé : {title} ({code}, {path})." },
};

const filled = (language, key, values = {}) =>
  SENTENCES[key][language].replace(/\{(\w+)\}/g, (place, name) => String(values[name] ?? place));

/** Seconds since 1970 as `2026-10-26T08:53:20Z`; digits where no calendar reaches. */
export function time(seconds) {
  const date = new Date(Number(seconds) * 1000);
  return Number.isNaN(date.getTime()) ? `${seconds} s` : date.toISOString().replace(".000", "");
}

const heads = (language, found) => [
  ...found.cosigned.map((one) => filled(language, "cosigned", { name: one.name, time: time(one.time) })),
  ...(found.cosigned.length === 0 ? [filled(language, "alone")] : []),
  ...found.unchecked.map((name) => filled(language, "unchecked", { name })),
];

/** What was checked (`record`, `promise`, `receipt`, `checkpoint`), in sentences; `compared` with a record, or not. */
export function told(language, kind, found, compared = false) {
  if (kind === "record") {
    const { manifest, kid, digest, opened } = found;
    return [
      filled(language, "record", { kid }),
      filled(language, "route", manifest),
      filled(language, "stated", { time: time(manifest.iat) }),
      filled(language, "digest", { digest }),
      ...manifest.parts.map(({ name }) => filled(language, Object.hasOwn(opened, name) ? "opened" : "sealed", { name })),
    ];
  }
  if (kind === "promise") {
    const { evt, topic, offset, promise } = found;
    const said = filled(language, "promise", { iss: promise.iss, time: time(promise.at), evt, topic, offset });
    return [said, filled(language, "digest", found), ...(compared ? [filled(language, "digestOnly")] : [])];
  }
  if (kind === "checkpoint") return [filled(language, "checkpoint", found), ...heads(language, found)];
  return [
    filled(language, "receipt", { ...found, ...found.entry }),
    ...(found.entry.kind === "reject" ? [filled(language, "refused", found.entry)] : []),
    ...(compared ? [filled(language, "about")] : []),
    ...heads(language, found),
  ];
}

/** A refusal in one sentence. */
export function refusal(language, { code, path }) {
  return filled(language, "no", { title: CODES[code][language], code, path });
}
