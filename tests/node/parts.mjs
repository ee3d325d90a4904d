// SPDX-License-Identifier: Apache-2.0
// What the readers of this folder have in common: npm's `jose` and `hpke`, and Node's own SHA-256.

import { createHash } from "node:crypto";
import { compactVerify, importJWK } from "jose";
import { AEAD_AES_256_GCM, CipherSuite, KDF_HKDF_SHA256, KEM_DHKEM_P256_HKDF_SHA256 } from "hpke";
import { AEAD_AES_256_GCM as AES_256_GCM, KDF_SHAKE256, KEM_MLKEM768_X25519 } from "@panva/hpke-noble";

const SUITES = {
  "647a-0011-0002": { suite: new CipherSuite(KEM_MLKEM768_X25519, KDF_SHAKE256, AES_256_GCM), enc: 1120 },
  "0010-0001-0002": { suite: new CipherSuite(KEM_DHKEM_P256_HKDF_SHA256, KDF_HKDF_SHA256, AEAD_AES_256_GCM), enc: 65 },
};

const b64url = (data) => Buffer.from(data).toString("base64url");
export const bytes = (text) => new Uint8Array(Buffer.from(text, "base64url"));
export const sha256 = (...data) => data.reduce((hash, item) => hash.update(item), createHash("sha256")).digest("base64url");

export function need(condition, what) {
  if (!condition) throw new Error(what);
}

export function sameMembers(found, expected) {
  need(found !== null && typeof found === "object" && !Array.isArray(found), "not an object");
  need(Object.keys(found).sort().join() === Object.keys(expected).sort().join(), "members");
  for (const [name, value] of Object.entries(expected)) need(found[name] === value, name);
}

// The payload of a compact JWS of that `typ`, signed with the key `{kid, pub}`.
export async function verifiedBy({ kid, pub }, jws, typ) {
  const point = Buffer.from(pub, "base64url");
  need(kid === sha256(point).slice(0, 22), "kid");
  const jwk = { kty: "EC", crv: "P-256", x: b64url(point.subarray(1, 33)), y: b64url(point.subarray(33)) };
  const { payload, protectedHeader } = await compactVerify(jws, await importJWK(jwk, "ES256"), { algorithms: ["ES256"] });
  sameMembers(protectedHeader, { alg: "ES256", kid, typ });
  return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload));
}

// `enc || ct` (HPKE, base mode) opened with the private key of that suite.
export async function hpkeOpened(name, seed, sealed, info) {
  const { suite, enc } = SUITES[name];
  const secret = await suite.DeserializePrivateKey(bytes(seed), true);
  const options = { info: new TextEncoder().encode(info) };
  return Buffer.from(await suite.Open(secret, sealed.slice(0, enc), sealed.slice(enc), options));
}
