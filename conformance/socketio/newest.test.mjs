// What the newest client can do and older ones cannot, and what its users do with it.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { io } from 'socket.io-client';
import { WAYS, ask, connected, join, open, tell, transport, upgraded } from './clients.mjs';
import { assertRefusal, hear, next } from '../common/hearing.mjs';
import { fresh, numbers } from '../common/payloads.mjs';
import { Server, attended, publish, shared } from '../common/server.mjs';

const EVERY_WAY = {
  'acks come as promises': async (t, way) => {
    const socket = await join(t, shared, { way });
    const room = fresh();
    const answers = await Promise.all(numbers(20).map((n) => socket.timeout(5_000).emitWithAck('$publish', room, 'n', n)));
    assert.deepEqual(answers.map(({ offset }) => offset), numbers(20, 1));
    assertRefusal(await socket.emitWithAck('order', 1), 108);
  },

  'what is emitted before there is a connection is sent once there is one, in order': async (t, way) => {
    const listener = await join(t, shared);
    const heard = hear(listener, 'n');
    const room = fresh();
    await tell(listener, '$subscribe', room);
    const socket = open(t, shared, { way });
    for (const n of numbers(50)) socket.emit('$publish', room, 'n', n);
    assert.deepEqual(await heard.count(50), numbers(50).map((n) => ['n', n]));
  },

  'what is emitted while the transport changes arrives once and in order': async (t, way) => {
    // Where a broker must be asked, all of them may be under way at once.
    const { url } = await Server.of(t, { 'client-in-flight-max': 1000 });
    const listener = await join(t, url);
    const heard = hear(listener, 'n', 'last');
    const room = fresh();
    await tell(listener, '$subscribe', room);
    const socket = open(t, url, { way });
    const own = hear(socket, 'n', 'last');
    await connected(socket);
    await tell(socket, '$subscribe', room);
    // In each turn of the loop a few, with bytes among them, until the transport has changed, and a hundred at least.
    const sent = [];
    const isThere = () => transport(socket) === WAYS[way].at(-1) && sent.length >= 100;
    while (!isThere() && sent.length < 700) {
      for (const n of numbers(2, sent.length)) {
        sent.push(['n', n % 5 ? n : { bytes: `${n}` }]);
        socket.emit('$publish', room, 'n', n % 5 ? n : Buffer.from(`${n}`));
      }
      await new Promise(setImmediate);
    }
    if (way === 'upgrade' && transport(socket) === 'polling') await upgraded(socket);
    await tell(socket, '$publish', room, 'last');
    const readable = ([event, value]) => (Buffer.isBuffer(value) ? [event, { bytes: `${value}` }] : value === undefined ? [event] : [event, value]);
    for (const each of [heard, own]) assert.deepEqual((await each.upTo(['last'])).map(readable), [...sent, ['last']]);
  },

  'a message may be as long as the server says, and a longer one costs no one but its sender the connection': async (t, way) => {
    const server = await Server.of(t, { 'websocket-message-bytes-max': '20KiB' });
    const socket = await join(t, server.url, { way });
    const other = await join(t, server.url, { way });
    const room = fresh();
    // The next ack is number 1, and a packet is `42ID["$publish",ROOM,"n",TEXT]`.
    await tell(socket, '$subscribe', room);
    const around = Buffer.byteLength(`421${JSON.stringify(['$publish', room, 'n', ''])}`);
    const longest = 'x'.repeat(20 * 1024 - around);
    const heard = hear(socket, 'n');
    await tell(socket, '$publish', room, 'n', longest);
    assert.deepEqual(await heard.count(1), [['n', longest]]);
    const [lost, back] = [next(socket, 'disconnect'), next(socket, 'connect')];
    socket.emit('$publish', room, 'n', `${longest}xx`);
    assert.match((await lost)[0], /^transport (close|error)$/);
    await back;
    assert.equal((await tell(other, '$history', room)).offset, 1);
  },

  'namespaces share one connection unless they are told not to': async (t, way) => {
    const options = { transports: WAYS[way], multiplex: true };
    // The client remembers connections by address, also those of other tests.
    const { url: address } = await Server.of(t);
    const [main, chat, own] = [io(address, options), io(`${address}/chat`, options), io(`${address}/news`, { ...options, forceNew: true })];
    for (const socket of [main, chat, own]) t.after(() => socket.io._close());
    await Promise.all([main, chat, own].map(connected));
    assert.equal(main.io, chat.io);
    assert.notEqual(main.io, own.io);
    assert.equal(new Set([main, chat, own].map(({ id }) => id)).size, 3);
    const room = fresh();
    const heard = [chat, own].map((socket) => hear(socket, 'message'));
    for (const socket of [main, chat, own]) await tell(socket, '$subscribe', room);
    await publish(address, { channel: `chat:${room}`, data: 'chat' });
    await publish(address, { channel: `news:${room}`, data: 'news' });
    assert.deepEqual(await Promise.all(heard.map((each) => each.count(1))), [[['message', 'chat']], [['message', 'news']]]);
  },
};

for (const way of Object.keys(WAYS)) {
  describe(`over ${way}`, () => {
    for (const [promise, play] of Object.entries(EVERY_WAY)) test(promise, (t) => play(t, way));
  });
}

test('the query may name channels to hear', async (t) => {
  const rooms = [fresh(), fresh('chat:')];
  const socket = open(t, shared, { query: { channels: rooms.join(',') } });
  const heard = hear(socket, 'message');
  await connected(socket);
  for (const channel of rooms) await attended(shared, channel);
  for (const channel of rooms) await publish(shared, { channel, data: channel });
  assert.deepEqual(await heard.count(2), rooms.map((room) => ['message', room]));
  assertRefusal(await ask(socket, '$subscribe', rooms[0]), 105);
});

test('a connection has sixteen namespaces and no more, and is not lost by asking for another', async (t) => {
  const main = await join(t, shared);
  const more = numbers(15).map((n) => main.io.socket(`/space${n}`));
  await Promise.all(more.map(connected));
  const [refusal] = await next(main.io.socket('/one-too-many'), 'connect_error');
  assert.ok(refusal.message);
  await tell(main, '$subscribe', fresh());
  assert.ok(more.every((socket) => socket.connected));
});

test('more than ten pieces of binary, and placeholders among them, are refused without harm', async (t) => {
  const [socket, listener] = [await join(t, shared), await join(t, shared)];
  const room = fresh();
  const heard = hear(listener, 'n');
  await tell(listener, '$subscribe', room);
  const one = Buffer.from([1]);
  assertRefusal(await ask(socket, '$publish', room, 'n', { _placeholder: false }, one), 107);
  await tell(socket, '$publish', room, 'n', Array.from({ length: 10 }, () => one));
  assert.equal((await heard.count(1))[0][1].length, 10);
});
