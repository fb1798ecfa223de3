// DUPLEX_URL=http://127.0.0.1:8000 npm test: the same against a real server in dev mode.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { Gate } from './gate.mjs';
import { Client } from '../dist/index.js';
import { eventually, listen, next } from './support.mjs';

const { DUPLEX_URL } = process.env;
const TRANSPORTS = ['websocket', 'sse', 'stream', 'poll'];
if (!DUPLEX_URL) console.log('SKIP: the tests against a real server need its address in DUPLEX_URL');
if (DUPLEX_URL && !globalThis.WebSocket) console.log('SKIP: the tests over a WebSocket need a platform that has one');

const url = DUPLEX_URL?.replace(/\/$/, '');
const here = DUPLEX_URL ? TRANSPORTS.filter((transport) => transport !== 'websocket' || globalThis.WebSocket) : [];
const freshChannel = () => `room-${randomUUID().slice(0, 8)}`;
// Some WebSockets are silent about connections that were refused.
const QUICK = { open: 300, attach: 500, backoff: 10, backoffMax: 50, remember: 0 };
const numbers = (count, first = 0) => Array.from({ length: count }, (_, i) => first + i);

async function publish(channel, data) {
  const response = await fetch(`${url}/api/v1/publish`, { method: 'POST', body: JSON.stringify({ channel, data }) });
  assert.equal(response.status, 200, await response.text());
}

async function sessions() {
  return (await (await fetch(`${url}/api/v1/info`, { method: 'POST' })).json()).sessions;
}

/** Runs `story` with a client behind a gate. */
async function withClient(options, story) {
  const gate = new Gate(url);
  const client = new Client(await gate.listen(), { times: QUICK, ...options });
  try {
    await story(client, gate);
  } finally {
    client.close();
    gate.close();
  }
}

for (const transport of here) {
  const over = (promise, story) => test(`${transport}: ${promise}`, () => withClient({ transports: [transport] }, story));

  over('a conversation', async (client) => {
    const channel = freshChannel();
    const room = client.subscribe(channel);
    const heard = listen(room);
    const headlines = [];
    room.on('event:headline', ({ data }) => headlines.push(data));
    const { recovered } = await next(room, 'subscribed');
    assert.deepEqual([recovered, client.transport], [undefined, transport]);
    await publish(channel, 'ü🦀');
    assert.equal((await room.publish({ a: [1] }, { event: 'headline', tags: { lang: 'en' } })).offset, 2);
    await client.publish(channel, undefined, { args: [1, 2] });
    await eventually(() => heard.length === 3);
    assert.deepEqual([heard, headlines], [['ü🦀', { a: [1] }, undefined], [{ a: [1] }]]);
    const { publications } = await room.history({ limit: 2, reverse: true });
    assert.deepEqual(publications.map(({ args, tags }) => [args, tags]), [[[1, 2], undefined], [undefined, { lang: 'en' }]]);
    await assert.rejects(client.call('add', [1, 2]), { name: 'DuplexError', code: 108 });
    assert.ok(await client.ping() > 0);
    await room.unsubscribe();
    await publish(channel, 'late');
    assert.equal(heard.length, 3);
  });

  over('many commands of one tick, and many publications', async (client) => {
    const channel = freshChannel();
    const heard = listen(client.subscribe(channel));
    await client.ping();
    const published = await Promise.all(numbers(250).map((data) => client.publish(channel, data)));
    assert.deepEqual(published.map(({ offset }) => offset), numbers(250, 1));
    await eventually(() => heard.length === 250);
    assert.deepEqual(heard, numbers(250));
  });

  over('a network that breaks again and again costs nothing', async (client, gate) => {
    const channel = freshChannel();
    const room = client.subscribe(channel);
    const heard = listen(room);
    await next(room, 'subscribed');
    for (const data of numbers(60)) {
      await publish(channel, data);
      if (data % 10 === 5) gate.cut();
      if (data % 10 === 7) gate.open();
    }
    await eventually(() => heard.length === 60);
    assert.deepEqual(heard, numbers(60));
  });

  over('a channel that is not named well is refused', async (client) => {
    const bad = client.subscribe(':nobody');
    assert.equal((await next(bad, 'error')).code, 107);
    assert.equal(bad.state, 'unsubscribed');
  });

  over('a command that is too long is refused before it is sent', async (client) => {
    await client.ping();
    await assert.rejects(client.publish(freshChannel(), 'x'.repeat(70_000)), { code: 106 });
    await client.publish(freshChannel(), 'x'.repeat(60_000));
  });

  over('close leaves nothing behind', async (client) => {
    await client.ping();
    const before = await sessions();
    client.close();
    while (await sessions() >= before);
  });
}

for (const transport of here.slice(1)) {
  test(`a session goes from ${transport} to a WebSocket and back while much is said`, { skip: !globalThis.WebSocket }, async () => {
    let blocked = true;
    const WebSocket = function (address, protocol) {
      if (blocked) throw new Error('forbidden');
      return new globalThis.WebSocket(address, protocol);
    };
    const options = { WebSocket, transports: ['websocket', transport], times: { ...QUICK, upgrade: 30, upgradeMax: 30 } };
    await withClient(options, async (client, gate) => {
      const channel = freshChannel();
      const heard = listen(client.subscribe(channel));
      const lost = [];
      client.on('disconnected', (end) => lost.push(end));
      await next(client, 'transport', (now) => now === transport);
      const published = [];
      for (const data of numbers(300)) {
        published.push(client.publish(channel, data));
        if (data % 50 === 10) blocked = false;
        if (data % 50 === 40) {
          blocked = true;
          gate.cut();
          gate.open();
        }
        if (data % 3 === 0) await new Promise((resolve) => setTimeout(resolve, 3));
      }
      assert.deepEqual((await Promise.all(published)).map(({ offset }) => offset), numbers(300, 1));
      await eventually(() => heard.length === 300);
      assert.deepEqual([heard, lost], [numbers(300), []]);
    });
  });
}

test('a WebSocket that is refused is followed by events', { skip: !DUPLEX_URL }, async () => {
  const WebSocket = function () { throw new Error('forbidden'); };
  await withClient({ WebSocket }, async (client) => {
    await client.ping();
    assert.equal(client.transport, 'sse');
  });
});
