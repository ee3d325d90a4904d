// SPDX-License-Identifier: Apache-2.0
// ML-DSA-44 signatures on checkpoints, read by another implementation (@noble/post-quantum), from the standards' text:
// c2sp.org/signed-note, c2sp.org/tlog-cosignature, FIPS 204. Asked on standard input: [{"note", "vkey"}, ...]; answers on
// standard output, in order: the time that the signature states, in seconds; or null where it does not hold.
import { readFileSync } from "node:fs";
import { ml_dsa44 } from "@noble/post-quantum/ml-dsa.js";

const TYPE = 6;
const text = new TextEncoder();

const number = (value) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
};
const named = (name) => Buffer.concat([Buffer.from([text.encode(name).length]), text.encode(name)]);

function statedTime(note, vkey) {
  const [name, id, ...rest] = vkey.split("+");
  const key = Buffer.from(rest.join("+"), "base64");
  if (key[0] !== TYPE || key.length !== 1 + 1312) return null;
  const [head, signatures] = note.split("\n\n");
  const [origin, size, root] = head.split("\n");
  for (const line of signatures.trimEnd().split("\n")) {
    const [dash, who, data] = line.split(" ");
    const signature = Buffer.from(data, "base64");
    if (dash !== "—" || who !== name || signature.subarray(0, 4).toString("hex") !== id) continue;
    const time = signature.subarray(4, 12);
    const message = Buffer.concat([
      text.encode("subtree/v1\n\0"), named(name), time, named(origin), number(0), number(size),
      Buffer.from(root, "base64"),
    ]);
    const holds = ml_dsa44.verify(signature.subarray(12), message, key.subarray(1));
    return holds ? Number(time.readBigUInt64BE()) : null;
  }
  return null;
}

const asked = JSON.parse(readFileSync(0, "utf-8"));
process.stdout.write(JSON.stringify(asked.map(({ note, vkey }) => statedTime(note, vkey))));
