// Clients of every kind on one channel. Two need no library, the native protocol over a WebSocket and an EventSource: whoever plays
// brings their constructors.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Heard, within } from './hearing.mjs';
import { numbers } from './payloads.mjs';
import { publish } from './server.mjs';

/** What is said of a publication: its event and arguments. */
export const brief = ({ event, data, args }) => [event, ...(args ?? [data])];

const at = (url, channel) => `${url}?channels=${encodeURIComponent(channel)}`;

/** A native client: JSON frames by WebSocket. */
export async function native(t, url, channel, WebSocket) {
  const socket = new WebSocket(at(`${url.replace('http', 'ws')}/ws`, channel));
  t.after(() => socket.terminate());
  const heard = new Heard();
  const subscribed = new Promise((resolve, reject) => {
    socket.on('error', reject);
    socket.on('message', (text) => {
      const frame = JSON.parse(text);
      if (frame.publication) heard.note(brief(frame.publication));
      if (frame.subscribed) resolve();
    });
  });
  await within(once(socket, 'open'), 'the WebSocket');
  await within(subscribed, 'the subscription');
  return { heard, publish: (data) => socket.send(JSON.stringify({ publish: { channel, event: 'said', ...data } })) };
}

/** A page that listens with an EventSource. */
export async function listener(t, url, channel, EventSource) {
  const source = new EventSource(at(`${url}/sse`, channel));
  t.after(() => source.close());
  const heard = new Heard();
  source.addEventListener('said', ({ data }) => heard.note(brief(JSON.parse(data))));
  await within(new Promise((resolve) => source.addEventListener('$subscribed', resolve)), 'the subscription');
  return { heard };
}

/** Everybody who can says something, all at once, so that the order is the server's; everybody hears it all in that order. */
export async function hearsTheSame(crowd, url, channel) {
  const sayers = Object.values(crowd).filter((one) => one.publish);
  await Promise.all(numbers(20).flatMap((round) => [
    ...sayers.map(async (sayer, who) => sayer.publish({ data: { who, round } })),
    publish(url, { channel, event: 'said', data: { who: 'the API', round } }),
  ]));
  const count = 20 * (sayers.length + 1);
  const expected = await crowd.native.heard.count(count);
  for (const [name, { heard }] of Object.entries(crowd)) assert.deepEqual(await heard.count(count), expected, name);
  for (const who of [...sayers.keys(), 'the API']) {
    const rounds = expected.filter(([, data]) => data.who === who).map(([, { round }]) => round);
    assert.deepEqual([...rounds].sort((a, b) => a - b), numbers(20), `${who}`);
  }
}
