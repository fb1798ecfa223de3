// The official Engine.IO client against the echo at /engine.io/: each message comes back once and in order.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Socket } from 'engine.io-client';
import { WAYS, arrival } from './clients.mjs';
import { Heard, next, within } from '../common/hearing.mjs';
import { ALL_BYTES, numbers, plain } from '../common/payloads.mjs';
import { Server, shared } from '../common/server.mjs';

function open(t, way, url = shared) {
  const socket = new Socket(url, { transports: WAYS[way], path: '/engine.io/' });
  t.after(() => socket.close());
  const heard = new Heard();
  // This client makes nothing at all of an empty text.
  socket.on('message', (message = '') => heard.note(message));
  return { socket, heard };
}

/** An open socket which, where its way leads there, is upgraded. */
async function join(t, way, url) {
  const opened = open(t, way, url);
  const { socket } = opened;
  const upgrade = way === 'upgrade' ? upgraded(socket) : null;
  await next(socket, 'open');
  await upgrade;
  assert.equal(socket.transport.name, arrival(way));
  return opened;
}

function upgraded(socket) {
  return within(new Promise((resolve, reject) => socket.once('upgrade', resolve).once('upgradeError', reject)), 'the upgrade');
}

const MESSAGES = ['hello', '', 'é 漢字 🙂 \u2028\u0000', '4', 'b64', ALL_BYTES, Buffer.alloc(0), Buffer.from([4]), 'x'.repeat(60_000)];

const ECHOES = {
  'text and bytes': async (t, way) => {
    const { socket, heard } = await join(t, way);
    for (const message of MESSAGES) socket.send(message);
    assert.deepEqual(plain(await heard.count(MESSAGES.length)), plain(MESSAGES));
  },

  '500 messages that were sent at once': async (t, way) => {
    const { socket, heard } = await join(t, way);
    const all = numbers(500).map((n) => (n % 7 ? `${n}` : Buffer.from(`${n}`)));
    for (const message of all) socket.send(message);
    assert.deepEqual(plain(await heard.count(500)), plain(all));
  },

  'as much as may be sent at once': async (t, way) => {
    const server = await Server.of(t, { 'websocket-message-bytes-max': '20KiB' });
    const { socket, heard } = await join(t, way, server.url);
    // What is in the handshake holds for a packet, and that has its type in front.
    const longest = 'é'.repeat(10) + 'x'.repeat(20 * 1024 - 21);
    socket.send(longest);
    assert.deepEqual(await heard.count(1), [longest]);
    const lost = next(socket, 'close');
    socket.send(`${longest}x`);
    assert.match((await lost)[0], /^transport (close|error)$/);
    assert.deepEqual(heard.all, [longest]);
  },
};

for (const way of Object.keys(WAYS)) {
  describe(`over ${way}`, () => {
    for (const [what, play] of Object.entries(ECHOES)) test(`the echo gives back ${what}`, (t) => play(t, way));
  });
}

test('a burst while the transport changes comes back once and in order', async (t) => {
  const { socket, heard } = open(t, 'upgrade');
  const upgrade = upgraded(socket);
  await next(socket, 'open');
  const all = numbers(500).map((n) => (n % 5 ? `${n}` : Buffer.from(`${n}`)));
  let isUpgraded = false;
  upgrade.then(() => { isUpgraded = true; });
  let sentBefore = 0;
  // A few in each turn of the loop, so that some go by polling, some while the probe runs, and the rest by WebSocket.
  for (let from = 0; from < all.length; from += 5) {
    for (const message of all.slice(from, from + 5)) socket.send(message);
    if (!isUpgraded) sentBefore += 5;
    await new Promise(setImmediate);
  }
  await upgrade;
  assert.ok(sentBefore > 0);
  assert.equal(socket.transport.name, 'websocket');
  assert.deepEqual(plain(await heard.count(500)), plain(all));
  socket.send('last');
  assert.equal((await heard.upTo('last')).length, 501);
});

test('the handshake says what the server is set to', async (t) => {
  const { url } = await Server.of(t, { 'client-heartbeat': '700ms', 'client-pong-timeout': '300ms', 'websocket-message-bytes-max': '20KiB' });
  const { socket } = open(t, 'polling', url);
  const [{ sid, ...handshake }] = await next(socket, 'handshake');
  assert.ok(sid);
  assert.deepEqual(handshake, { upgrades: ['websocket'], pingInterval: 700, pingTimeout: 300, maxPayload: 20 * 1024 });
});
