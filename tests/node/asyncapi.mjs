// SPDX-License-Identifier: Apache-2.0
// Reads an AsyncAPI document with the standard parser and says on standard output what it found, as one line of JSON.
//   node asyncapi.mjs FILE
// Exit status: 0 a valid document; 1 refused, with what the parser says.
import { Parser, fromFile } from '@asyncapi/parser';

const SEVERITIES = ['error', 'warning', 'info', 'hint'];
const { document, diagnostics } = await fromFile(new Parser(), process.argv[2]).parse();
const found = diagnostics.map(({ code, message, path, severity }) => ({
  severity: SEVERITIES[severity],
  code,
  message,
  path: path.join('.'),
}));
const ok = document !== undefined && !found.some(({ severity }) => severity === 'error');
const said = document && {
  channels: Object.fromEntries(
    document.channels().all().map((channel) => [channel.address(), channel.messages().all().map((one) => one.id())]),
  ),
  messages: Object.fromEntries(
    document.components().messages().all().map((one) => [
      one.id(),
      { payload: one.payload()?.json(), headers: one.headers()?.json() },
    ]),
  ),
};
process.stdout.write(JSON.stringify({ ok, diagnostics: found, ...said }) + '\n');
process.exitCode = ok ? 0 : 1;
