// SPDX-License-Identifier: Apache-2.0
// Lets a test ask docs/verify/verify.mjs: one question a line on standard input, one answer a line on standard output.
// Fields are separated by tabs, bytes are base64url. An answer is `ok` and what was found, or a refusal's code and path.

import { createInterface } from "node:readline";
import * as verify from "../../docs/verify/verify.mjs";

const bytes = verify.unbase64url;
const hash = async (data) => verify.base64url(await verify.sha256(data));
const listed = (text) => (text === "" ? [] : text.split(","));
const judged = (right) => {
  if (!right) throw new verify.Refused("no", "");
  return [];
};
const head = ({ origin, size, root, cosigned, unchecked }) => [
  origin,
  size,
  verify.base64url(root),
  cosigned.map(({ name, time }) => `${name}@${time}`).join(),
  unchecked.join(),
];

const QUESTIONS = {
  async record(value, key, keys) {
    const pairs = listed(keys).map((pair) => pair.split("="));
    const found = await verify.verifyRecord(bytes(value), bytes(key), Object.fromEntries(pairs.map(([n, k]) => [n, bytes(k)])));
    const opened = [];
    for (const { name } of found.manifest.parts) {
      if (name in found.opened) opened.push(`${name}=${await hash(found.opened[name])}`);
    }
    const { evt, iss, to, topic, kind, thread, seq, prev, iat, reg } = found.manifest;
    return [found.digest, [evt, iss, to, topic, kind, thread, seq, prev, iat, reg].join(), opened.join()];
  },
  async evidence(data, key, domain) {
    const { evt, topic, offset, digest, promise } = await verify.verifyEvidence(bytes(data), bytes(key), domain);
    return [verify.base64url(new TextEncoder().encode(`${evt},${topic},${offset},${digest}`)), promise.iss, promise.at];
  },
  checkpoint: async (data, ...vkeys) => head(await verify.verifyCheckpoint(bytes(data), vkeys)),
  async receipt(data, ...vkeys) {
    const found = await verify.verifyReceipt(bytes(data), vkeys);
    const { kind, topic, offset, previous, sha256, digest, detail } = found.entry;
    return [...head(found), found.index, [kind, topic, offset, previous, sha256, digest, detail].join()];
  },
  async inclusion(leaf, index, size, root, path) {
    return judged(await verify.verifyInclusion(bytes(leaf), index, size, listed(path).map(bytes), bytes(root)));
  },
  async consistency(oldRoot, old, size, root, path) {
    return judged(await verify.verifyConsistency(old, bytes(oldRoot), size, bytes(root), listed(path).map(bytes)));
  },
  es256: async (key, message, signature) => judged(await verify.es256(bytes(key), bytes(message), bytes(signature))),
  ed25519: async (key, message, signature) => judged(await verify.ed25519(bytes(key), bytes(signature), bytes(message))),
};

for await (const line of createInterface({ input: process.stdin })) {
  const [question, ...fields] = line.split("\t");
  let answer;
  try {
    answer = ["ok", ...(await QUESTIONS[question](...fields))];
  } catch (error) {
    if (!(error instanceof verify.Refused)) throw error;
    answer = [error.code, error.path];
  }
  process.stdout.write(`${answer.join("\t")}\n`);
}
