// SPDX-License-Identifier: Apache-2.0
// Opens a bundle as it lies on a stick, by docs/wire-format.md ("On a stick") and off-the-shelf parts alone.
//
//   node bundle.mjs KEYS-FILE READER SIGNER FILE...
//
// KEYS-FILE is the vectors' keys.json, READER one of its sealing keys, SIGNER one of its signing keys. One line of JSON a
// file: {"head":{...},"lines":[...]}, or {"refused":"<what>"} with nothing of what is inside.

import { readFileSync } from "node:fs";
import { hpkeOpened, need, sha256, verifiedBy } from "./parts.mjs";

const [keysFile, reader, signer, ...files] = process.argv.slice(2);
const keys = JSON.parse(readFileSync(keysFile, "utf8"));
const SIZES = [256, 1024, 4096, 12288].map((kib) => kib * 1024);

async function opened(data) {
  need(sha256(data.subarray(0, -32)) === data.subarray(-32).toString("base64url"), "damaged");
  const [magic, suite] = data.subarray(0, 64).toString("latin1").split("\n");
  need(magic === "umuhuza-bundle/1", "version");
  need(suite === keys.sealing[reader].suite, "suite");
  const sealed = new Uint8Array(data.subarray(magic.length + suite.length + 2, -32));
  let plaintext;
  try {
    plaintext = await hpkeOpened(suite, keys.sealing[reader].seed, sealed, "umuhuza/1 bundle\n");
  } catch {
    need(false, "unopenable");
  }
  need(SIZES.includes(plaintext.length), "size");
  const [jws] = plaintext.subarray(0, 4096).toString("latin1").split("\n");
  const head = await verifiedBy(keys.signing[signer], jws, "umuhuza-bundle+jws");
  const body = plaintext.subarray(jws.length + 1).toString("utf8").replace(/ +$/, "");
  need(head.v === 1, "v");
  need(sha256(body) === head.sha256, "sha256");
  const lines = body.split("\n").slice(0, -1).map((line) => JSON.parse(line));
  need(lines.length === head.n, "n");
  return { head, lines };
}

for (const file of files) {
  try {
    console.log(JSON.stringify(await opened(readFileSync(file))));
  } catch (error) {
    console.log(JSON.stringify({ refused: error.code ?? error.message }));
  }
}
