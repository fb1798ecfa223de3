// Everybody on one channel, each in its own protocol: the same publications in the same order, whoever publishes them.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { EventSource } from 'eventsource';
import WebSocket from 'ws';
import { CLIENTS, WAYS, flagsFor, join, tell } from './clients.mjs';
import { hear } from '../common/hearing.mjs';
import { brief, hearsTheSame, listener, native } from '../common/crowd.mjs';
import { fresh, plain } from '../common/payloads.mjs';
import { Server, publish } from '../common/server.mjs';

const VERSION_2 = CLIENTS['socket.io-client 2'];

let server;
let url;
before(async () => {
  server = await Server.launch(flagsFor(VERSION_2));
  url = server.url;
});
after(() => server?.stop());

async function member(t, channel, client, way) {
  const socket = await join(t, url, { client, way });
  const heard = hear(socket, 'said');
  await tell(socket, '$subscribe', channel);
  return { heard, publish: ({ data, args = [data] }) => tell(socket, '$publish', channel, 'said', ...args) };
}

/** One of each kind, by name. */
async function everybody(t, channel) {
  const crowd = { native: await native(t, url, channel, WebSocket), 'Server-Sent Events': await listener(t, url, channel, EventSource) };
  for (const [name, client] of Object.entries(CLIENTS)) {
    for (const way of Object.keys(WAYS)) crowd[`${name} over ${way}`] = await member(t, channel, client, way);
  }
  return crowd;
}

const isSocketIo = (name) => name.startsWith('socket.io');

test('everybody hears the same in the same order, whoever says it', async (t) => {
  const channel = fresh('chat:');
  await hearsTheSame(await everybody(t, channel), url, channel);
});

test('bytes are bytes to Socket.IO clients and Base64 to everybody else', async (t) => {
  const channel = fresh();
  const crowd = await everybody(t, channel);
  const args = ['text', Buffer.from([0, 1, 254, 255]), { deep: [Buffer.from('é🙂')] }];
  const texts = ['text', args[1].toString('base64'), { deep: [args[2].deep[0].toString('base64')] }];
  let count = 0;
  for (const [name, sayer] of Object.entries(crowd)) {
    if (!isSocketIo(name)) continue;
    await sayer.publish({ args });
    count += 1;
    for (const [listenerName, { heard }] of Object.entries(crowd)) {
      const [event, ...got] = (await heard.count(count))[count - 1];
      assert.equal(event, 'said');
      assert.deepEqual(plain(got), plain(isSocketIo(listenerName) ? args : texts), `from ${name} to ${listenerName}`);
    }
  }
  assert.equal(count, Object.keys(CLIENTS).length * Object.keys(WAYS).length);
});

test('what others cannot say in Socket.IO is kept from its clients, and nobody is thrown out', async (t) => {
  const channel = fresh();
  const crowd = await everybody(t, channel);
  const poison = ['connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener'];
  for (const event of poison) {
    const response = await fetch(`${url}/api/v1/publish`, { method: 'POST', body: JSON.stringify({ channel, event, data: 1 }) });
    assert.ok([400, 422].includes(response.status), `${event}: ${response.status}`);
  }
  // Of these every one is harmless, though it looks like something else.
  const odd = [{ data: { _placeholder: true, num: 0 } }, { args: [{ _placeholder: true, num: 7 }, null] }, { data: 1e300 }, { data: 1e21 }];
  for (const publication of odd) await publish(url, { channel, event: 'said', ...publication });
  crowd.native.publish({ data: '2["said","not a packet"]' });
  const expected = [...odd.map((publication) => brief({ event: 'said', ...publication })), ['said', '2["said","not a packet"]']];
  for (const [name, { heard }] of Object.entries(crowd)) assert.deepEqual(await heard.count(expected.length), expected, name);
});

test('who is present is counted over all protocols', async (t) => {
  const channel = fresh();
  const crowd = await everybody(t, channel);
  const asking = await join(t, url);
  const { clients, members } = await tell(asking, '$presence', channel);
  assert.equal(clients, Object.keys(crowd).length);
  assert.equal(new Set(members.map(({ client }) => client)).size, clients);
});

test('a client of Socket.IO is known by the same id to those who hear it', async (t) => {
  const channel = fresh();
  const socket = await join(t, url);
  await tell(socket, '$subscribe', channel);
  await tell(socket, '$publish', channel, 'said', 1);
  const [{ client }] = (await tell(socket, '$history', channel)).publications;
  const { members } = await tell(socket, '$presence', channel);
  assert.deepEqual(members.map((one) => one.client), [client]);
});
