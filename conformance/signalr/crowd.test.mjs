// Everybody on one channel, each in its own protocol: the same publications in the same order, whoever publishes them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventSource } from 'eventsource';
import WebSocket from 'ws';
import { eventually, hear } from '../common/hearing.mjs';
import { hearsTheSame, listener, native } from '../common/crowd.mjs';
import { fresh, numbers, plain } from '../common/payloads.mjs';
import { publish, shared } from '../common/server.mjs';
import { ask, everybody, join } from './clients.mjs';

async function member(t, channel, options) {
  const connection = await join(t, shared, options);
  const heard = hear(connection, 'said');
  await ask(connection, '$subscribe', channel);
  return { heard, isBinary: options.client.isBinary, publish: ({ data, args = [data] }) => ask(connection, '$publish', channel, 'said', ...args) };
}

/** One of each kind, by name. */
async function crowd(t, channel) {
  const all = { native: await native(t, shared, channel, WebSocket), 'Server-Sent Events': await listener(t, shared, channel, EventSource) };
  for (const { name, client, way } of everybody) all[name] = await member(t, channel, { client, way });
  return all;
}

test('everybody hears the same in the same order, whoever says it', async (t) => {
  const channel = fresh('chat:');
  await hearsTheSame(await crowd(t, channel), shared, channel);
});

test('bytes are bytes in MessagePack and Base64 to everybody else', async (t) => {
  const channel = fresh();
  const all = await crowd(t, channel);
  const args = ['text', Buffer.from([0, 1, 254, 255]), { deep: [Buffer.from('é🙂')] }];
  const texts = ['text', args[1].toString('base64'), { deep: [args[2].deep[0].toString('base64')] }];
  const sayers = Object.values(all).filter(({ isBinary }) => isBinary);
  for (const [index, sayer] of sayers.entries()) {
    await sayer.publish({ args });
    for (const [name, { heard, isBinary }] of Object.entries(all)) {
      const got = (await heard.count(index + 1))[index];
      assert.deepEqual(plain(got), plain(['said', ...(isBinary ? args : texts)]), name);
    }
  }
});

test('what others say throws nobody out, however odd', async (t) => {
  const channel = fresh();
  const all = await crowd(t, channel);
  const odd = [
    { data: null }, { args: [] }, { data: '\u001e{"type":7}\u001e' }, { data: { type: 7, error: 'no' } }, { data: 1e300 }, { data: 2 ** 64 }, { args: [[[]], {}] },
    { data: { _placeholder: true, num: 0 } }, { args: numbers(200) },
  ];
  // Names that every object in JavaScript has.
  for (const event of ['constructor', '__proto__', 'hasOwnProperty']) await publish(shared, { channel, event, data: 1 });
  for (const publication of odd) await publish(shared, { channel, event: 'said', ...publication });
  const expected = odd.map(({ data, args }) => ['said', ...(args ?? [data])]);
  for (const [name, { heard }] of Object.entries(all)) {
    const last = JSON.stringify(expected.at(-1));
    await eventually(() => assert.ok(heard.all.some((entry) => JSON.stringify(entry) === last), name));
    assert.deepEqual(plain(heard.all.filter(([event]) => event === 'said')), plain(expected), name);
  }
  for (const event of ['', '$close', 'x'.repeat(300)]) {
    const response = await fetch(`${shared}/api/v1/publish`, { method: 'POST', body: JSON.stringify({ channel, event, data: 1 }) });
    assert.ok([400, 422].includes(response.status), `${event}: ${response.status}`);
  }
});

test('who is present is counted over all protocols', async (t) => {
  const channel = fresh();
  const all = await crowd(t, channel);
  const asking = await join(t, shared);
  const { clients, members } = await ask(asking, '$presence', channel);
  assert.equal(clients, Object.keys(all).length);
  assert.equal(new Set(members.map(({ client }) => client)).size, clients);
});
