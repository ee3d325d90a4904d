// SPDX-License-Identifier: Apache-2.0
// A second opinion on the wire format, from off-the-shelf parts only: npm `jose` for JWS and JWE, npm `hpke` with
// `@panva/hpke-noble` for grants, Node's own SHA-256 and ECDSA. Follows docs/wire-format.md; shares nothing with the Python code.
//
//   node verify.mjs DIRECTORY-WITH-VECTORS
//
// Every valid vector must verify, open and give the stated plaintexts. Every invalid one with the flag `crypto`, and
// every `header_forbidden`, must be refused here too. Of the other invalid ones (shapes that a general library need not mind) it is only
// counted how many are refused. The last line of standard output is one JSON object; the exit status says whether all
// was as stated. Failures name vector ids and never print keys or plaintexts.

import { createHash, verify as ecdsaVerify } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { compactDecrypt } from "jose";
import { bytes, hpkeOpened, need, sameMembers, sha256, verifiedBy } from "./parts.mjs";

const directory = process.argv[2];
const load = (name) => JSON.parse(readFileSync(join(directory, name), "utf8"));
const keys = load("keys.json");

const joined = (pieces) =>
  typeof pieces === "string" ? pieces : pieces.map((p) => (typeof p === "string" ? p : p[0].repeat(p[1]))).join("");

const verified = (jws, signer, typ) => verifiedBy(keys.signing[signer], jws, typ);

async function readRecord(vector) {
  const lines = joined(vector.input).split("\n");
  need(lines.length === 2, "lines");
  const [line1, line2] = lines;
  const manifest = await verified(line1, vector.key, "umuhuza-event+jws");
  need(manifest.v === 1, "v");
  const texts = line2.split("~");
  need(texts.length === manifest.parts.length, "parts");
  const plaintexts = {};
  for (const [index, part] of manifest.parts.entries()) {
    need(texts[index].length === part.len && sha256(texts[index]) === part.sha256, "digest");
    if (vector.keys?.[part.name] === undefined) continue;
    const cek = bytes(vector.keys[part.name]);
    const { plaintext, protectedHeader } = await compactDecrypt(texts[index], cek, {
      keyManagementAlgorithms: ["dir"],
      contentEncryptionAlgorithms: ["A256GCM"],
    });
    const kid = `${manifest.iss}/${manifest.evt}/${part.name}`;
    sameMembers(protectedHeader, { alg: "dir", enc: "A256GCM", kid, typ: "umuhuza-part+jwe" });
    need(sha256("umuhuza/1 cek\n", cek) === part.kc, "commitment");
    plaintexts[part.name] = Buffer.from(plaintext).toString("utf8").replace(/ +$/, "");
  }
  return { digest: sha256(line1.slice(0, line1.lastIndexOf("."))), plaintexts };
}

async function readGrant(vector, record) {
  const manifest = await verified(record.split("\n")[0], "iom", "umuhuza-event+jws");
  const grant = JSON.parse(joined(vector.input));
  const key = keys.sealing[vector.opener];
  need(grant.v === 1 && grant.iss === manifest.iss && grant.evt === manifest.evt, "another record");
  need(grant.kid === key.kid && grant.suite === key.suite, "another key");
  const info = ["umuhuza/1 grant", manifest.iss, manifest.to, manifest.topic, manifest.evt, grant.kid]
    .concat(manifest.parts.map((part) => part.kc))
    .map((line) => `${line}\n`)
    .join("");
  const plaintext = await hpkeOpened(grant.suite, key.seed, bytes(grant.ct), info);
  const opened = JSON.parse(plaintext.toString("utf8"));
  for (const [name, text] of Object.entries(opened)) {
    const part = manifest.parts.find((candidate) => candidate.name === name);
    need(part !== undefined && bytes(text).length === 32, "key");
    need(sha256("umuhuza/1 cek\n", bytes(text)) === part.kc, "commitment");
  }
  return { opened };
}

// OLPC's canonical JSON, which TUF signs: sorted names, nothing escaped but the quote and the backslash.
function olpc(value) {
  if (typeof value === "string") return `"${value.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
  if (Array.isArray(value)) return `[${value.map(olpc).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  return `{${Object.keys(value).sort().map((name) => `${olpc(name)}:${olpc(value[name])}`).join(",")}}`;
}

const hex = (text) => createHash("sha256").update(text, "utf8").digest("hex");

function enough(root, role, metadata) {
  const { keyids, threshold } = root.signed.roles[role];
  const message = Buffer.from(olpc(metadata.signed), "utf8");
  const signed = new Set();
  for (const { keyid, sig } of metadata.signatures) {
    if (!keyids.includes(keyid) || signed.has(keyid)) continue;
    const { keytype, scheme, keyval } = root.signed.keys[keyid];
    need(hex(olpc({ keytype, scheme, keyval })) === keyid, "key id");
    if (ecdsaVerify("sha256", message, keyval.public, Buffer.from(sig, "hex"))) signed.add(keyid);
  }
  need(signed.size >= threshold, `${role} threshold`);
}

async function readRegistry(vector) {
  const whole = Buffer.from(joined(vector.input), "latin1").toString("utf8");
  const { files } = JSON.parse(whole);
  need(JSON.stringify({ v: 1, files }) === whole, "file");
  const used = new Set();
  const take = (path, stated) => {
    const text = files[path];
    need(typeof text === "string", "missing");
    if (stated !== undefined) {
      need(Buffer.byteLength(text) === stated.length && hex(text) === stated.hashes.sha256, "hash");
    }
    used.add(path);
    return text;
  };
  const json = (text, role, version) => {
    const metadata = JSON.parse(text);
    need(metadata.signed._type === role && (version === undefined || metadata.signed.version === version), role);
    need(new Set(metadata.signatures.map((one) => one.keyid)).size === metadata.signatures.length, "signatures");
    return metadata;
  };
  let root;
  let pinned = false;
  let number = 0;
  while (files[`metadata/${number + 1}.root.json`] !== undefined) {
    number += 1;
    const text = take(`metadata/${number}.root.json`);
    const next = json(text, "root", number);
    if (root !== undefined) {
      enough(root, "root", next);
      for (const name of ["x-umuhuza-domain", "x-umuhuza-training"]) need(root.signed[name] === next.signed[name], name);
    }
    enough(next, "root", next);
    pinned ||= createHash("sha256").update(text, "utf8").digest("base64url") === vector.root;
    root = next;
  }
  need(pinned, "root");
  const timestamp = json(take("metadata/timestamp.json"), "timestamp");
  enough(root, "timestamp", timestamp);
  const stated = timestamp.signed.meta["snapshot.json"];
  const snapshot = json(take(`metadata/${stated.version}.snapshot.json`, stated), "snapshot", stated.version);
  enough(root, "snapshot", snapshot);
  need(snapshot.signed.meta["root.json"].version === number, "root version");
  take(`metadata/${number}.root.json`, snapshot.signed.meta["root.json"]);
  const listed = snapshot.signed.meta["targets.json"];
  const targets = json(take(`metadata/${listed.version}.targets.json`, listed), "targets", listed.version);
  enough(root, "targets", targets);
  const members = {};
  let ledgers;
  for (const [name, one] of Object.entries(targets.signed.targets)) {
    const [, folder, file] = /^([a-z]+\/)?([a-z0-9-]+\.json)$/.exec(name);
    const text = take(`targets/${folder ?? ""}${one.hashes.sha256}.${file}`, one);
    if (name === "ledgers.json") ledgers = JSON.parse(text).ledgers.map(announced);
    if (folder !== "agencies/") continue;
    const agency = JSON.parse(text);
    members[agency.id] = agency.roles;
    for (const key of agency.keys) need(sha256(bytes(key.pub)).slice(0, 22) === key.kid, "kid");
  }
  need(used.size === Object.keys(files).length, "file");
  return { members, ...(ledgers === undefined ? {} : { ledgers }) };
}

// One ledger of a domain: its keys are under its own name, and a key's id follows from name and key (c2sp.org/signed-note).
function announced({ origin, keys }) {
  for (const vkey of keys) {
    const [, name, id, key] = /^([^+]+)\+([0-9a-f]{8})\+(.+)$/.exec(vkey);
    const made = createHash("sha256").update(`${name}\n`).update(Buffer.from(key, "base64")).digest("hex").slice(0, 8);
    need(name === origin && id === made, "vkey");
  }
  return origin;
}

const canonical = (value) =>
  JSON.stringify(value, (_, v) =>
    v && typeof v === "object" && !Array.isArray(v) ? Object.fromEntries(Object.entries(v).sort()) : v,
  );

const counts = { valid: 0, refused: 0, lenient: 0, opened: 0 };
const failures = [];

async function check(vector, read) {
  let result;
  try {
    result = await read(vector);
  } catch (error) {
    if (vector.result === "ok") failures.push(`${vector.id}: refused (${error.code ?? error.name})`);
    else counts.refused += 1;
    return;
  }
  if (vector.result !== "ok") {
    counts.lenient += 1;
    if (vector.flags.includes("crypto") || vector.result === "header_forbidden") failures.push(`${vector.id}: accepted`);
    return;
  }
  counts.valid += 1;
  for (const [name, value] of Object.entries(result)) {
    const stated = name === "plaintexts" ? Object.fromEntries(Object.entries(vector[name]).map(([n, t]) => [n, joined(t)])) : vector[name];
    if (canonical(value) !== canonical(stated)) failures.push(`${vector.id}: ${name} differs`);
    if (name !== "digest" && name !== "ledgers") counts.opened += 1;
  }
}

for (const name of ["records.json", "bodies.json"]) for (const vector of load(name).vectors) await check(vector, readRecord);
const grants = load("grants.json");
for (const vector of grants.vectors) await check(vector, (v) => readGrant(v, grants.record));
for (const vector of load("registry.json").vectors) await check(vector, readRegistry);

for (const failure of failures) console.error(failure);
console.log(JSON.stringify({ ok: failures.length === 0, ...counts, failures: failures.length }));
process.exitCode = failures.length === 0 ? 0 : 1;
