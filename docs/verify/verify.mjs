// SPDX-License-Identifier: Apache-2.0
// Checks records, promises and proofs of Umuhuza with nothing but this file: for browsers and Node.js 20 or newer.
//
//   verifyRecord      who signed a record, that its sealed parts are the signed ones, and what keys that you hold open
//   verifyEvidence    that a gateway promised to log one record
//   verifyReceipt     that an entry is in the log, under a checkpoint of that log
//   verifyCheckpoint  that a log, and its witnesses, signed a size and a root
//   isAbout           that a promise or an entry is about this record and no other
//
// Written from docs/wire-format.md and C2SP's signed-note, tlog-checkpoint, tlog-cosignature and tlog-proof, not from the
// product's code. Cryptography is the platform's own (Web Cryptography API). Everything is refused by throwing `Refused`
// with the product's code and the path of what is wrong, never with a value; `words.mjs` has words for the codes.
//
// Must never: ask the network or a file for anything, keep or print a key or a plaintext, take a key from the message.

/** A refusal: `code` is stable, `path` says where; never what was there. */
export class Refused extends Error {
  constructor(code, path) {
    super(`${code} [${path}]`);
    this.name = "Refused";
    this.code = code;
    this.path = path;
  }
}

const subtle = globalThis.crypto.subtle;
const encoder = new TextEncoder();
const malformed = (path) => new Refused("record_malformed", path);

// --------------------------------------------------------------------------------------------------------------------
// Bytes

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const SEXTETS = new Int8Array(65536).fill(-1);
[...ALPHABET].forEach((letter, value) => {
  SEXTETS[letter.charCodeAt(0)] = value;
});

/** Base64url without padding (RFC 4648 section 5). */
export function base64url(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 3) {
    const left = bytes.length - at;
    const word = (bytes[at] << 16) | ((left > 1 ? bytes[at + 1] : 0) << 8) | (left > 2 ? bytes[at + 2] : 0);
    for (let digit = 0; digit < Math.min(left, 3) + 1; digit += 1) text += ALPHABET[(word >> (18 - 6 * digit)) & 63];
  }
  return text;
}

/** Strict reverse of `base64url`: no padding, no other character, zero in the bits beyond the last byte; else null. */
export function unbase64url(text) {
  if (typeof text !== "string" || text.length % 4 === 1) return null;
  const bytes = new Uint8Array(Math.floor((text.length * 3) / 4));
  let bits = 0;
  let held = 0;
  let at = 0;
  for (let letter = 0; letter < text.length; letter += 1) {
    const value = SEXTETS[text.charCodeAt(letter)];
    if (value < 0) return null;
    held = ((held & 0xff) << 6) | value;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      bytes[at] = (held >> bits) & 0xff;
      at += 1;
    }
  }
  return (held & ((1 << bits) - 1)) === 0 ? bytes : null;
}

/** Standard base64 with padding (RFC 4648 section 4), as strict; else null. */
export function unbase64(text) {
  const match = /^([A-Za-z0-9+/]*)(={0,2})$/.exec(text);
  if (match === null || text.length % 4 !== 0) return null;
  return unbase64url(match[1].replaceAll("+", "-").replaceAll("/", "_"));
}

function joined(...pieces) {
  const bytes = new Uint8Array(pieces.reduce((length, piece) => length + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");

function same(left, right) {
  return left.length === right.length && left.every((byte, at) => byte === right[at]);
}

/** SHA-256 of these bytes, one after the other. */
export async function sha256(...pieces) {
  return new Uint8Array(await subtle.digest("SHA-256", joined(...pieces)));
}

const utf8 = (text) => encoder.encode(text);

/** One character for each byte: what is not ASCII stays not ASCII and is refused where the text is read. */
function latin1(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return text;
}

// --------------------------------------------------------------------------------------------------------------------
// Strict JSON (RFC 7493 and less): what two readers could read differently is refused

class BadJson extends Error {
  constructor(path) {
    super("json");
    this.path = path;
  }
}

function tooDeep(text, maxDepth) {
  const outside = text.replace(/"(?:[^"\\]|\\[^])*(?:"|\\?$)/g, "").replace(/[^[\]{}]/g, "");
  if ((outside.match(/[[{]/g) ?? []).length <= maxDepth) return false;
  let depth = 0;
  for (const bracket of outside) {
    depth += bracket === "{" || bracket === "[" ? 1 : -1;
    if (depth < 0 || depth > maxDepth) return true;
  }
  return depth !== 0;
}

const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/y;
const CONSTANT = /NaN|-?Infinity/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const SPACE = /[ \t\n\r]*/y;
const ESCAPED = new Map(Object.entries({ '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" }));
const LONE = /\p{Surrogate}/u;

/** Objects become `Map`s, numbers are integers. Throws BadJson with "" (no such text) or "*" (something in it). */
function parseJson(bytes, maxBytes, maxDepth) {
  if (bytes.length > maxBytes || tooDeep(latin1(bytes), maxDepth)) throw new BadJson("");
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new BadJson("");
  }
  let at = 0;
  let lone = false;

  function taken(pattern) {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match !== null) at = pattern.lastIndex;
    return match;
  }

  function expect(character) {
    if (text[at] !== character) throw new BadJson("");
    at += 1;
  }

  function string() {
    expect('"');
    let found = "";
    for (;;) {
      found += taken(PLAIN)[0];
      const next = text[at];
      at += 1;
      if (next === '"') break;
      if (next !== "\\") throw new BadJson("");
      const letter = text[at];
      at += 1;
      if (letter === "u") {
        const digits = text.slice(at, at + 4);
        if (!/^[0-9a-fA-F]{4}$/.test(digits)) throw new BadJson("");
        found += String.fromCharCode(parseInt(digits, 16));
        at += 4;
      } else if (ESCAPED.has(letter)) {
        found += ESCAPED.get(letter);
      } else {
        throw new BadJson("");
      }
    }
    lone ||= LONE.test(found);
    return found;
  }

  function members() {
    const found = new Map();
    let count = 0;
    expect("{");
    taken(SPACE);
    while (text[at] !== "}") {
      if (count > 0) {
        expect(",");
        taken(SPACE);
      }
      const name = string();
      taken(SPACE);
      expect(":");
      taken(SPACE);
      found.set(name, value());
      count += 1;
      taken(SPACE);
    }
    at += 1;
    if (found.size !== count) throw new BadJson("*");
    return found;
  }

  function elements() {
    const found = [];
    expect("[");
    taken(SPACE);
    while (text[at] !== "]") {
      if (found.length > 0) {
        expect(",");
        taken(SPACE);
      }
      found.push(value());
      taken(SPACE);
    }
    at += 1;
    return found;
  }

  function value() {
    if (text[at] === '"') return string();
    if (text[at] === "{") return members();
    if (text[at] === "[") return elements();
    for (const [word, meaning] of [["true", true], ["false", false], ["null", null]]) {
      if (text.startsWith(word, at)) {
        at += word.length;
        return meaning;
      }
    }
    if (taken(CONSTANT) !== null) throw new BadJson("*");
    const number = taken(NUMBER);
    if (number === null) throw new BadJson("");
    const integer = Number(number[0]);
    if (number[1] !== undefined || number[2] !== undefined || number[0] === "-0" || !Number.isSafeInteger(integer))
      throw new BadJson("*");
    return integer;
  }

  taken(SPACE);
  const found = value();
  taken(SPACE);
  if (at !== text.length || lone) throw new BadJson("");
  return found;
}

// --------------------------------------------------------------------------------------------------------------------
// The manifest (L1)

export const MAX_RECORD_BYTES = 900000;
const MAX_MANIFEST_BYTES = 8192;
const MAX_PARTS = 32;
const MAX_PADDED_BYTES = 655360;
const PADDED = new Map([1024, 4096, 16384, 65536, 262144].map((size) => [Math.ceil((size * 4) / 3), size]));
const KINDS = ["request", "answer", "update", "control"];
const FLOWS =
  "referral case alert investigation bilateral rights statistics directory knowledge receipt".split(" ");
const AGENCY = "[a-z]{2}/[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?";
const UUID7 = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}";
const whole = (pattern) => new RegExp(`^(?:${pattern})$`, "u");
const PATTERNS = {
  evt: whole(UUID7),
  iss: whole(AGENCY),
  to: whole(AGENCY),
  thread: /^[A-Za-z0-9_-]{21}[AQgw]$/u,
  topic: /^([a-z]{2})\.([a-z]+)\.([a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?)$/u,
};
const HASH = /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/u;
const PART_NAME = /^[a-z][a-z0-9-]{0,30}$/u;
const AGREEMENT = /^[a-z0-9][a-z0-9-]{0,60}$/u;
const KID = /^[A-Za-z0-9_-]{22}$/u;
const IDENT = whole(`${AGENCY}/${UUID7}`);
const REQUIRED = ["evt", "iat", "iss", "kind", "parts", "prev", "reg", "seq", "thread", "to", "topic", "v"];
const OPTIONAL = ["acts", "agreement", "answer_by", "ref", "training", "voids"];
const PART_MEMBERS = ["kc", "len", "name", "sha256"];

const matches = (value, pattern) => typeof value === "string" && pattern.test(value);

function header(segment, typ) {
  const bytes = unbase64url(segment);
  if (bytes === null) throw malformed("L1.header");
  let found;
  try {
    found = parseJson(bytes, 512, 2);
  } catch {
    throw malformed("L1.header");
  }
  if (!(found instanceof Map)) throw malformed("L1.header");
  const forbidden = (path) => new Refused("header_forbidden", `L1.header.${path}`);
  for (const name of found.keys()) if (!["alg", "kid", "typ"].includes(name)) throw forbidden("*");
  if (found.get("alg") !== "ES256") throw forbidden("alg");
  if (found.get("typ") !== typ) throw forbidden("typ");
  if (!matches(found.get("kid"), KID)) throw forbidden("kid");
  return found.get("kid");
}

/** L1 -> {kid, signed, signature, manifest}; the shape only. */
function parseManifest(line) {
  if (line.length > MAX_MANIFEST_BYTES) throw new Refused("too_large", "L1");
  const segments = latin1(line).split(".");
  if (segments.length !== 3) throw malformed("L1");
  const kid = header(segments[0], "umuhuza-event+jws");
  const payload = unbase64url(segments[1]);
  if (payload === null) throw malformed("L1.payload");
  const signature = unbase64url(segments[2]);
  if (signature === null || signature.length !== 64) throw malformed("L1.signature");
  let found;
  try {
    found = parseJson(payload, MAX_MANIFEST_BYTES, 4);
  } catch (error) {
    throw malformed(error.path ? `L1.${error.path}` : "L1");
  }
  if (!(found instanceof Map)) throw malformed("L1.payload");
  const signed = line.subarray(0, segments[0].length + 1 + segments[1].length);
  return { kid, signed, signature, manifest: manifestOf(found) };
}

function manifestOf(raw) {
  if (raw.get("v") !== 1) throw new Refused("version_unsupported", "L1.v");
  const missing = REQUIRED.find((name) => !raw.has(name));
  if (missing !== undefined) throw malformed(`L1.${missing}`);
  for (const name of raw.keys()) if (!REQUIRED.includes(name) && !OPTIONAL.includes(name)) throw malformed("L1.*");
  for (const [name, pattern] of Object.entries(PATTERNS)) {
    if (!matches(raw.get(name), pattern)) throw malformed(`L1.${name}`);
  }
  const [, domain, flow, owner] = PATTERNS.topic.exec(raw.get("topic"));
  if (!FLOWS.includes(flow)) throw malformed("L1.topic");
  if (`${domain}/${owner}` !== raw.get("to")) throw new Refused("topic_mismatch", "L1.topic");
  if (!KINDS.includes(raw.get("kind"))) throw malformed("L1.kind");
  const least = (name, bound) => {
    if (!Number.isSafeInteger(raw.get(name)) || raw.get(name) < bound) throw malformed(`L1.${name}`);
  };
  const shaped = (name, pattern) => {
    if (raw.has(name) && !matches(raw.get(name), pattern)) throw malformed(`L1.${name}`);
  };
  least("seq", 1);
  const [seq, prev] = [raw.get("seq"), raw.get("prev")];
  if ((prev === "") !== (seq === 1) || (prev !== "" && !matches(prev, HASH))) throw malformed("L1.prev");
  least("iat", 1);
  least("reg", 0);
  checkParts(raw.get("parts"));
  if (raw.has("acts")) checkActs(raw.get("acts"), raw.get("kind"));
  if (raw.has("training") && raw.get("training") !== true) throw malformed("L1.training");
  shaped("ref", PATTERNS.evt);
  if (raw.has("voids")) checkVoids(raw.get("voids"), seq);
  if (raw.has("answer_by")) least("answer_by", 1);
  shaped("agreement", AGREEMENT);
  return plain(raw);
}

/** Maps of names that were checked, as plain objects. */
function plain(value) {
  if (Array.isArray(value)) return value.map(plain);
  return value instanceof Map ? Object.fromEntries([...value].map(([name, held]) => [name, plain(held)])) : value;
}

function checkParts(raw) {
  if (!Array.isArray(raw) || raw.length < 2 || raw.length > MAX_PARTS) throw malformed("L1.parts");
  raw.forEach((part, index) => {
    const path = `L1.parts[${index}]`;
    if (!(part instanceof Map)) throw malformed(path);
    const missing = PART_MEMBERS.find((name) => !part.has(name));
    if (missing !== undefined) throw malformed(`${path}.${missing}`);
    if (part.size !== PART_MEMBERS.length) throw malformed(`${path}.*`);
    if (!matches(part.get("name"), PART_NAME)) throw malformed(`${path}.name`);
    if (!matches(part.get("sha256"), HASH)) throw malformed(`${path}.sha256`);
    if (!matches(part.get("kc"), HASH)) throw malformed(`${path}.kc`);
    if (!Number.isSafeInteger(part.get("len")) || part.get("len") < 1) throw malformed(`${path}.len`);
  });
  const names = raw.map((part) => part.get("name"));
  if (names[0] !== "identity" || names[1] !== "content") throw malformed("L1.parts");
  const again = names.findIndex((name, index) => names.indexOf(name) < index);
  if (again >= 0) throw malformed(`L1.parts[${again}].name`);
}

function checkActs(raw, kind) {
  if (kind !== "control" || !(raw instanceof Map) || raw.size === 0) throw malformed("L1.acts");
  for (const name of raw.keys()) if (name !== "erase" && name !== "grant") throw malformed("L1.acts");
  for (const [name, targets] of raw) {
    const path = `L1.acts.${name}`;
    if (!Array.isArray(targets) || targets.length < 1 || targets.length > 50) throw malformed(path);
    if (new Set(targets.map(String)).size !== targets.length) throw malformed(path);
    targets.forEach((target, index) => {
      if (!matches(target, IDENT)) throw malformed(`${path}[${index}]`);
    });
  }
}

function checkVoids(raw, seq) {
  if (!Array.isArray(raw) || raw.length < 1 || raw.length > 500) throw malformed("L1.voids");
  raw.forEach((item, index) => {
    const last = index > 0 ? raw[index - 1] : 0;
    if (!Number.isSafeInteger(item) || item <= last || item >= seq) throw malformed(`L1.voids[${index}]`);
  });
}

// --------------------------------------------------------------------------------------------------------------------
// Records

/** A key's id: the first 22 characters of base64url(SHA-256(public key)). */
export async function kidOf(publicKey) {
  return base64url(await sha256(publicKey)).slice(0, 22);
}

/** ES256 (RFC 7518 section 3.4). publicKey: 65 bytes, the uncompressed point. signature: 64 bytes, r || s. */
export async function es256(publicKey, signed, signature) {
  if (publicKey.length !== 65 || publicKey[0] !== 4 || signature.length !== 64) return false;
  const algorithm = { name: "ECDSA", namedCurve: "P-256" };
  let key;
  try {
    key = await subtle.importKey("raw", publicKey, algorithm, false, ["verify"]);
  } catch {
    return false; // not a point of the curve: nobody's key
  }
  return subtle.verify({ name: "ECDSA", hash: "SHA-256" }, key, signature, signed);
}

const signedBy = async (publicKey, kid, signed, signature) =>
  (await kidOf(publicKey)) === kid && es256(publicKey, signed, signature);

/** L1 alone, when the body is gone: {manifest, kid, digest}. Refuses as `verifyRecord`. */
export async function verifyManifest(line, publicKey) {
  const read = parseManifest(line);
  if (!(await signedBy(publicKey, read.kid, read.signed, read.signature))) throw new Refused("signature_invalid", "L1");
  return { manifest: read.manifest, kid: read.kid, digest: base64url(await sha256(read.signed)) };
}

function split(value) {
  if (value.length > MAX_RECORD_BYTES) throw new Refused("too_large", "record");
  const newline = value.indexOf(10);
  const line2 = newline < 0 ? "" : latin1(value.subarray(newline + 1));
  if (!/^[A-Za-z0-9_.~-]+$/.test(line2)) throw malformed("record");
  const read = parseManifest(value.subarray(0, newline));
  const texts = line2.split("~");
  if (texts.length !== read.manifest.parts.length) throw malformed("L2");
  return { ...read, texts };
}

/** What a record is known by, its shape alone looked at: {evt, topic, digest, sha256}, `sha256` that of all its bytes. */
export async function identify(value) {
  const { manifest, signed } = split(value);
  const { evt, topic } = manifest;
  return { evt, topic, digest: base64url(await sha256(signed)), sha256: base64url(await sha256(value)) };
}

/**
 * A whole record.
 *
 * value: Uint8Array, L1 LF L2. publicKey: the sender's, 65 bytes, from the registry. keys: part name -> its 32-byte key,
 * for the parts that you may read. Returns {manifest, kid, digest, opened}: `digest` is what promises and logs name the
 * record by; `opened` the parts' plaintexts as bytes, with their padding.
 */
export async function verifyRecord(value, publicKey, keys = {}) {
  const { manifest, kid, signed, signature, texts } = split(value);
  if (!(await signedBy(publicKey, kid, signed, signature))) throw new Refused("signature_invalid", "L1");
  let total = 0;
  for (const [index, part] of manifest.parts.entries()) {
    const text = texts[index];
    if (text.length !== part.len || base64url(await sha256(utf8(text))) !== part.sha256)
      throw new Refused("part_digest_mismatch", `L2[${index}]`);
    total += paddedSize(index, text, manifest);
  }
  if (total > MAX_PADDED_BYTES) throw new Refused("too_large", "L2");
  const opened = {};
  for (const [index, { name }] of manifest.parts.entries()) {
    if (Object.hasOwn(keys, name)) opened[name] = await openPart(index, texts[index], keys[name]);
  }
  await verifyCommitments(manifest, keys);
  return { manifest, kid, digest: base64url(await sha256(signed)), opened };
}

function paddedSize(index, text, manifest) {
  const [head, empty, iv, ciphertext, tag, ...more] = text.split(".");
  const size = PADDED.get(ciphertext?.length);
  const { name } = manifest.parts[index];
  const small = manifest.kind === "control" || (manifest.kind === "answer" && name === "identity");
  const bad = tag === undefined || more.length > 0 || empty !== "" || iv.length !== 16 || tag.length !== 22;
  if (bad || size === undefined || (size === 1024 && !small)) throw malformed(`L2[${index}]`);
  if (!/[AQgw]$/.test(tag) || !/[AQgw]$/.test(ciphertext)) throw malformed(`L2[${index}]`);
  const bytes = unbase64url(head);
  let found;
  try {
    found = parseJson(bytes, 512, 2);
  } catch {
    throw malformed(`L2[${index}].header`);
  }
  const kid = `${manifest.iss}/${manifest.evt}/${name}`;
  const wanted = Object.entries({ alg: "dir", enc: "A256GCM", kid, typ: "umuhuza-part+jwe" });
  if (!(found instanceof Map) || found.size !== 4 || !wanted.every(([member, is]) => found.get(member) === is))
    throw new Refused("header_forbidden", `L2[${index}].header`);
  return size;
}

async function openPart(index, text, key) {
  const [head, , iv, ciphertext, tag] = text.split(".");
  const pieces = [iv, ciphertext, tag].map(unbase64url);
  if (pieces.includes(null)) throw malformed(`L2[${index}]`);
  try {
    if (key.length !== 32) throw new TypeError("size");
    const secret = await subtle.importKey("raw", key, "AES-GCM", false, ["decrypt"]);
    const algorithm = { name: "AES-GCM", iv: pieces[0], additionalData: utf8(head), tagLength: 128 };
    return new Uint8Array(await subtle.decrypt(algorithm, secret, joined(pieces[1], pieces[2])));
  } catch {
    throw new Refused("part_unopenable", `L2[${index}]`);
  }
}

/** The keys are those that the sender committed to: everybody who was granted a part holds the same key. */
export async function verifyCommitments(manifest, keys) {
  for (const [index, part] of manifest.parts.entries()) {
    if (Object.hasOwn(keys, part.name) && base64url(await sha256(utf8("umuhuza/1 cek\n"), keys[part.name])) !== part.kc)
      throw new Refused("key_commitment_mismatch", `L1.parts[${index}].kc`);
  }
}

// --------------------------------------------------------------------------------------------------------------------
// Merkle trees (RFC 6962 section 2.1)

const EMPTY_ROOT = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
export const leafHash = (entry) => sha256(Uint8Array.of(0), entry);
export const nodeHash = (left, right) => sha256(Uint8Array.of(1), left, right);

/** Whether the leaf hash stands at `index` of the tree of `size` leaves with this root (RFC 9162 section 2.1.3.2). */
export async function verifyInclusion(leaf, index, size, path, root) {
  let [node, at, last, used] = [leaf, BigInt(index), BigInt(size) - 1n, 0];
  if (at < 0n || at > last) return false;
  while (last > 0n) {
    const right = (at & 1n) === 1n;
    if (right || at < last) {
      const sibling = path[used];
      used += 1;
      if (sibling?.length !== 32) return false;
      node = right ? await nodeHash(sibling, node) : await nodeHash(node, sibling);
    }
    at >>= 1n;
    last >>= 1n;
  }
  return used === path.length && same(node, root);
}

/** Whether the tree of `old` leaves is the beginning of the tree of `size` leaves (RFC 9162 section 2.1.4.2). */
export async function verifyConsistency(old, oldRoot, size, root, path) {
  let [at, last] = [BigInt(old) - 1n, BigInt(size) - 1n];
  if (at < -1n || at > last || path.some((node) => node.length !== 32)) return false;
  if (at === last || at === -1n)
    return path.length === 0 && same(oldRoot, at === last ? root : unbase64(EMPTY_ROOT));
  const nodes = (BigInt(old) & at) === 0n ? [oldRoot, ...path] : [...path];
  while ((at & 1n) === 1n) [at, last] = [at >> 1n, last >> 1n];
  let [first, second] = [nodes[0], nodes[0]];
  if (first === undefined) return false;
  for (const node of nodes.slice(1)) {
    if (last === 0n) return false;
    if ((at & 1n) === 1n || at === last) {
      [first, second] = [await nodeHash(node, first), await nodeHash(node, second)];
      while ((at & 1n) === 0n && at !== 0n) [at, last] = [at >> 1n, last >> 1n];
    } else {
      second = await nodeHash(second, node);
    }
    [at, last] = [at >> 1n, last >> 1n];
  }
  return last === 0n && same(first, oldRoot) && same(second, root);
}

// --------------------------------------------------------------------------------------------------------------------
// Promises

const EVIDENCE = { evt: "", l1_sha256: "", topic: "", offset: 0, index: 0, path: [], promise: "" };
const PROMISE = { v: 0, iss: "", at: 0, origin: "", root: "", n: 0 };

function hasMembers(found, example) {
  if (!(found instanceof Map) || found.size !== Object.keys(example).length) return false;
  return Object.entries(example).every(
    ([name, like]) => typeof found.get(name) === typeof like && Array.isArray(found.get(name)) === Array.isArray(like),
  );
}

async function readPromise(text, publicKey) {
  const segments = text.split(".");
  if (text.length > 4096 || segments.length !== 3 || /[^\u0000-\u007f]/.test(text)) throw malformed("promise");
  const kid = header(segments[0], "umuhuza-promise+jws");
  const [payload, signature] = segments.slice(1).map(unbase64url);
  if (signature === null || payload === null) throw malformed("promise");
  let found;
  try {
    found = parseJson(payload, 4096, 1);
  } catch {
    throw malformed("promise");
  }
  if (!(await signedBy(publicKey, kid, utf8(`${segments[0]}.${segments[1]}`), signature)))
    throw new Refused("signature_invalid", "promise");
  if (!hasMembers(found, PROMISE) || found.get("v") !== 1) throw malformed("promise");
  const root = unbase64url(found.get("root"));
  if (root?.length !== 32) throw malformed("promise");
  return { ...plain(found), root };
}

/**
 * What an agency keeps of a gateway's promise for one record.
 *
 * data: Uint8Array, the JSON. publicKey: the gateway's. domain: whose ledger it must be for, `bi`. Returns {evt, topic,
 * offset, digest, promise}: which record that is, `isAbout` says.
 */
export async function verifyEvidence(data, publicKey, domain) {
  let found;
  try {
    found = parseJson(data, 16384, 3);
  } catch {
    throw malformed("evidence");
  }
  if (!hasMembers(found, EVIDENCE)) throw malformed("evidence");
  const { evt, l1_sha256, topic, offset, index, path, promise } = plain(found);
  const read = await readPromise(promise, publicKey);
  const nodes = path.map(unbase64url);
  const ledger = `${domain}.umuhuza/log`; // or /log2, ...: the one that followed when it was lost
  const ours = read.origin.startsWith(ledger) && /^([2-9]|[1-9][0-9]{1,3})?$/.test(read.origin.slice(ledger.length));
  const right = ours && read.n > 0 && read.n <= 1000 && !nodes.includes(null);
  const leaf = await leafHash(utf8(JSON.stringify([evt, l1_sha256, topic, offset])));
  if (!right || !(await verifyInclusion(leaf, index, read.n, nodes, read.root)))
    throw new Refused("root_mismatch", "promise");
  return { evt, topic, offset, digest: l1_sha256, promise: read };
}

// --------------------------------------------------------------------------------------------------------------------
// Signed notes: checkpoints of a log, and who else has seen them

const MAX_NOTE_BYTES = 262144;
const MAX_EXTRA_BYTES = 65536;
const MAX_PROOF_BYTES = MAX_NOTE_BYTES + 2 * MAX_EXTRA_BYTES + 64 * 65;
const MAX_SIGNATURES = 32;
const MAX_SIZE = 2n ** 63n - 1n;
const [ED25519, COSIGNATURE, ML_DSA_44] = [1, 4, 6];
const ML_DSA_44_SIGNATURE = 8 + 2420; // its time first, then FIPS 204
const bad = (path) => new Refused("note_malformed", path);

/** A key's name or a log's origin: 1 to 255 bytes, no space, no `+`, nothing unprintable. */
const isName = (text) => /^[^+\p{C}\p{Z}]+$/u.test(text) && utf8(text).length <= 255;

function noteText(data, path) {
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
  } catch {
    throw bad(path);
  }
  if (/[\u0000-\u0009\u000b-\u001f]/.test(text)) throw bad(path);
  return text;
}

function decimal(text, path) {
  if (!/^(?:0|[1-9][0-9]{0,18})$/.test(text) || BigInt(text) > MAX_SIZE) throw bad(path);
  return BigInt(text);
}

function hashOf(text, path) {
  const found = unbase64(text);
  if (found?.length !== 32) throw bad(path);
  return found;
}

async function keyId(name, type, key) {
  return hex((await sha256(utf8(`${name}\n`), Uint8Array.of(type), key)).subarray(0, 4));
}

/** `name+id+base64(type || key)`, as the registry or an agreement states a log's or a witness's key. */
export async function readVkey(text) {
  const [name, id, ...rest] = text.split("+");
  const bytes = unbase64(rest.join("+"));
  const type = bytes?.[0];
  const key = bytes?.subarray(1);
  if (!isName(name) || key?.length !== { [ED25519]: 32, [COSIGNATURE]: 32, [ML_DSA_44]: 1312 }[type]) throw bad("vkey");
  const expected = await keyId(name, type, key);
  if (id !== expected) throw bad("vkey");
  return { name, type, key, id };
}

function signatureLines(text, path) {
  if (!text.endsWith("\n")) throw bad(path);
  const lines = text.slice(0, -1).split("\n");
  if (lines.length > MAX_SIGNATURES) throw new Refused("too_large", path);
  const seen = new Set();
  return lines.map((line, number) => {
    const match = /^\u2014 ([^ ]*) (.*)$/u.exec(line);
    const bytes = match === null ? null : unbase64(match[2]);
    if (bytes === null || !isName(match[1]) || bytes.length < 5) throw bad(`${path}[${number}]`);
    const one = { name: match[1], id: hex(bytes.subarray(0, 4)), signature: bytes.subarray(4) };
    if (seen.has(`${one.name} ${one.id}`)) throw bad(`${path}[${number}]`);
    seen.add(`${one.name} ${one.id}`);
    return one;
  });
}

/** Ed25519 (RFC 8032). publicKey: 32 bytes. signature: 64 bytes. */
export async function ed25519(publicKey, signature, message) {
  try {
    const key = await subtle.importKey("raw", publicKey, { name: "Ed25519" }, false, ["verify"]);
    return await subtle.verify({ name: "Ed25519" }, key, signature, message);
  } catch (error) {
    if (error.name === "NotSupportedError") throw error; // an old browser: no answer, and certainly no "valid"
    return false;
  }
}

/** Seconds that the signature states, 0 where it states none; null where it does not verify. */
async function noteSignature(key, signature, text) {
  if (key.type === ED25519) return (await ed25519(key.key, signature, utf8(text))) ? 0n : null;
  if (signature.length !== 72) return null;
  const time = new DataView(signature.buffer, signature.byteOffset, 8).getBigUint64(0);
  const message = utf8(`cosignature/v1\ntime ${time}\n${text}`);
  return time <= MAX_SIZE && (await ed25519(key.key, signature.subarray(8), message)) ? time : null;
}

/** Those of the keys that have signed, all of them checked. Keys of ML-DSA-44 are passed over: no browser knows it. */
async function noteSigners(note, keys) {
  const found = [];
  for (const [number, { name, id, signature }] of note.signatures.entries()) {
    const key = keys.find((one) => one.name === name && one.id === id && one.type !== ML_DSA_44);
    if (key === undefined) continue;
    const time = await noteSignature(key, signature, note.text);
    if (time === null) throw new Refused("signature_invalid", `note.signatures[${number}]`);
    found.push({ name, time, type: key.type });
  }
  return found;
}

/**
 * A log's checkpoint.
 *
 * data: Uint8Array. vkeys: the keys that you trust, the log's own and its witnesses'. Returns {origin, size, root,
 * cosigned: [{name, time}], unchecked: [name]}: `size` and `time` are BigInt, `time` in seconds since 1970, never 0: such a
 * cosignature does not say that it is of the newest tree (c2sp.org/tlog-cosignature), and counts for nothing. `unchecked`
 * are your keys that are for ML-DSA-44, and whoever else has such a signature on it: not looked at here.
 */
export async function verifyCheckpoint(data, vkeys) {
  const keys = [];
  for (const vkey of vkeys) keys.push(await readVkey(vkey));
  if (data.length > MAX_NOTE_BYTES) throw new Refused("too_large", "note");
  const whole = noteText(data, "note");
  const blank = whole.lastIndexOf("\n\n");
  if (blank <= 0) throw bad("note");
  const note = { text: whole.slice(0, blank + 1), signatures: signatureLines(whole.slice(blank + 2), "note.signatures") };
  const lines = note.text.split("\n");
  if (lines.length < 4) throw bad("checkpoint");
  if (lines.length > 4) throw bad("checkpoint.extension");
  const size = decimal(lines[1], "checkpoint.size");
  const root = hashOf(lines[2], "checkpoint.root");
  if (!isName(lines[0])) throw bad("checkpoint.origin");
  if (size === 0n && lines[2] !== EMPTY_ROOT) throw bad("checkpoint.root");
  const signers = await noteSigners(note, keys);
  const own = ({ name, type }) => name === lines[0] && type === ED25519;
  if (!signers.some(own)) throw new Refused("signature_invalid", "note.signatures");
  const witnessed = ({ type, time }) => type === COSIGNATURE && time !== 0n; // time 0 does not say that it is the newest
  const cosigned = signers.filter(witnessed).map(({ name, time }) => ({ name, time }));
  const strange = note.signatures.filter(({ name, id, signature }) =>
    signature.length === ML_DSA_44_SIGNATURE && !keys.some((key) => key.name === name && key.id === id));
  const unchecked = [...keys.filter((key) => key.type === ML_DSA_44), ...strange].map(({ name }) => name);
  return { origin: lines[0], size, root, cosigned, unchecked };
}

const ENTRY = new RegExp(
  "^umuhuza-entry/1\\n(event|duplicate|registry|erasure|erased|retention|reject|gap)\\n" +
    "(-|[a-z]{2}\\.[a-z]+\\.[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?)\\n(-|0|[1-9][0-9]{0,15})\\n(-|0|[1-9][0-9]{0,15})\\n" +
    "(-|[0-9a-f]{64})\\n(-|[0-9a-f]{64})\\n(-|0|[1-9][0-9]{0,15}|[a-z][a-z_]{0,63})\\n$",
);

/** A ledger's entry: {kind, topic, offset, previous, sha256, digest, detail}, `-` where nothing applies. */
function readEntry(entry) {
  const match = ENTRY.exec(latin1(entry));
  if (match === null) throw new Refused("log_inconsistent", "entry");
  const [kind, topic, offset, previous, value, l1, detail] = match.slice(1);
  const hash = (digits) => (digits === "-" ? digits : base64url(Uint8Array.from(digits.match(/../g), (d) => parseInt(d, 16))));
  return { kind, topic, offset, previous, sha256: hash(value), digest: hash(l1), detail };
}

/**
 * A receipt (c2sp.org/tlog-proof): the entry that it carries is in the log, under the checkpoint that it carries.
 *
 * data: Uint8Array. vkeys: as for `verifyCheckpoint`. Returns what that does, `index` and `entry`. An entry of kind
 * `reject` says that the record was refused, with the code as its `detail`.
 */
export async function verifyReceipt(data, vkeys) {
  if (data.length > MAX_PROOF_BYTES) throw new Refused("too_large", "proof");
  const blank = latin1(data).indexOf("\n\n");
  if (blank < 0) throw bad("proof");
  const [title, ...lines] = noteText(data.subarray(0, blank), "proof").split("\n");
  if (title !== "c2sp.org/tlog-proof@v1") throw bad("proof.header");
  const extra = lines[0]?.startsWith("extra ") ? unbase64(lines.shift().slice(6)) : undefined;
  if (extra === null) throw bad("proof.extra");
  if (extra?.length > MAX_EXTRA_BYTES) throw new Refused("too_large", "proof.extra");
  if (!lines[0]?.startsWith("index ")) throw bad("proof.index");
  const index = decimal(lines.shift().slice(6), "proof.index");
  if (lines.length > 63) throw bad("proof.path");
  const path = lines.map((line, number) => hashOf(line, `proof.path[${number}]`));
  if (extra === undefined) throw bad("proof.extra");
  const head = await verifyCheckpoint(data.subarray(blank + 2), vkeys);
  if (!(await verifyInclusion(await leafHash(extra), index, head.size, path, head.root)))
    throw new Refused("root_mismatch", "proof");
  return { ...head, index, entry: readEntry(extra) };
}

/** What was promised (`verifyEvidence`) or logged (the `entry` of `verifyReceipt`) is this record (`identify`), unchanged. */
export function isAbout(found, record) {
  const named = found.digest === record.digest && found.topic === record.topic && (found.evt ?? record.evt) === record.evt;
  if (!named || (found.sha256 ?? record.sha256) !== record.sha256)
    throw new Refused("record_rewritten", found.evt === undefined ? "entry" : "evidence");
}
