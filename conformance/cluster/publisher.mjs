// A process that publishes at a rate and repeats, with the same key, what was not answered. What was accepted is a line of its log:
// `[channel, id, epoch, offset, attempts]`.
import { createWriteStream } from 'node:fs';
import http from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';

const { url, key, channels, perSecond, seconds, log } = JSON.parse(process.argv[2]);
const output = createWriteStream(log);
const agent = new http.Agent({ keepAlive: true, maxSockets: 128 });
const headers = { 'content-type': 'application/json', authorization: `Bearer ${key}` };
const PATIENCE_MS = 10_000;
const TICK_MS = 20;

/** The status and answer, or nothing if there was none. */
function attempt(body) {
  return new Promise((resolve) => {
    const request = http.request(`${url}/api/v1/publish`, { method: 'POST', agent, headers, timeout: PATIENCE_MS }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (piece) => { text += piece; });
      response.on('end', () => resolve({ status: response.statusCode, text })).on('error', () => resolve({}));
    });
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolve({}));
    request.end(body);
  });
}

async function publish(id) {
  const channel = channels[id % channels.length];
  const body = JSON.stringify({ channel, data: { id }, idempotency_key: `audit-${id}` });
  for (let attempts = 1; ; attempts += 1) {
    const { status, text } = await attempt(body);
    if (status === 200) {
      const { epoch, offset } = JSON.parse(text);
      output.write(`${JSON.stringify([channel, id, epoch, offset, attempts])}\n`);
      return;
    }
    if (status >= 400 && status < 500) throw new Error(`publishing was refused with ${status}: ${text}`);
    await pause(50);
  }
}

const begin = Date.now();
const total = perSecond * seconds;
const all = [];
while (all.length < total) {
  const due = Math.min(total, Math.floor(((Date.now() - begin) * perSecond) / 1_000));
  while (all.length < due) all.push(publish(all.length));
  await pause(TICK_MS);
}
await Promise.all(all);
const took_ms = Date.now() - begin;
output.end(() => process.send({ accepted: total, took_ms }));
