// Servers come and go; clients notice, and come back by themselves.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Socket } from 'engine.io-client';
import { Gate } from '../common/gate.mjs';
import { CLIENTS, WAYS, arrival, ask, connected, flagsFor, join, open, refused, tell, transport } from './clients.mjs';
import { Heard, eventually, hear, next } from '../common/hearing.mjs';
import { fresh, numbers } from '../common/payloads.mjs';
import { Server, publish, shared } from '../common/server.mjs';

const QUICK = { 'client-heartbeat': '300ms', 'client-pong-timeout': '300ms' };
const HEARTBEATS = 5;

/** It has what it asks for, as if nothing had happened. */
async function works(url, socket) {
  const room = fresh();
  const heard = hear(socket, 'message');
  await tell(socket, '$subscribe', room);
  await publish(url, { channel: room, data: 'works' });
  await heard.upTo(['message', 'works']);
}

for (const [name, client] of Object.entries(CLIENTS)) {
  for (const way of Object.keys(WAYS)) {
    describe(`${name} over ${way}`, { concurrency: 3 }, () => {
      const flags = flagsFor(client);

      for (const [signal, reason] of [['SIGKILL', /^transport (close|error)$/], ['SIGTERM', way === 'polling' ? /^transport (close|error)$/ : /^transport close$/]]) {
        test(`comes back after the server has ended by ${signal} and is there again`, async (t) => {
          const server = await Server.of(t, flags);
          const socket = await join(t, server.url, { client, way });
          const { id } = socket;
          const [lost, back] = [next(socket, 'disconnect'), next(socket, 'connect')];
          await server.end(signal);
          assert.match((await lost)[0], reason);
          await server.start();
          await back;
          assert.notEqual(socket.id, id);
          await works(server.url, socket);
          await eventually(() => assert.equal(transport(socket), arrival(way)));
        });
      }

      test('stays connected while nothing is said but heartbeats', async (t) => {
        const { url } = await Server.of(t, { ...flags, ...QUICK, 'client-pong-timeout': '3s' });
        const socket = await join(t, url, { client, way });
        const { id } = socket;
        const lost = hear(socket, 'disconnect');
        // Up to version 2 it is the client that pings.
        const beat = client.isV2 ? 'pong' : 'ping';
        const beats = new Heard();
        socket.io.engine.on('packet', ({ type }) => type === beat && beats.note(type));
        await beats.count(HEARTBEATS);
        assert.deepEqual(lost.all, []);
        assert.equal(socket.id, id);
        await works(url, socket);
      });

      test('notices that the server has fallen silent, and comes back', async (t) => {
        const { url } = await Server.of(t, { ...flags, ...QUICK });
        const gate = new Gate(url);
        t.after(() => gate.close());
        const socket = await join(t, await gate.listen(), { client, way });
        const [lost, back] = [next(socket, 'disconnect'), next(socket, 'connect')];
        gate.hold();
        assert.equal((await lost)[0], 'ping timeout');
        gate.thaw();
        await back;
        await works(url, socket);
      });

      test('that has gone without a word is no longer present once it does not answer pings', async (t) => {
        const { url } = await Server.of(t, { ...flags, ...QUICK });
        const gate = new Gate(url);
        t.after(() => gate.close());
        const socket = await join(t, await gate.listen(), { client, way });
        const other = await join(t, url, { client, way });
        const room = fresh();
        await tell(socket, '$subscribe', room);
        assert.equal((await tell(other, '$presence', room, { count: true })).clients, 1);
        gate.hold();
        // Twice 300 ms, and time for a busy machine.
        await eventually(async () => assert.equal((await tell(other, '$presence', room, { count: true })).clients, 0), 3_000);
      });
    });
  }
}

test('an ack that does not come in time is an error of the client, and a late one is ignored', async (t) => {
  const gate = new Gate(shared);
  t.after(() => gate.close());
  const socket = await join(t, await gate.listen());
  gate.hold();
  await assert.rejects(socket.timeout(100).emitWithAck('$subscribe', fresh()), /timed out/);
  gate.thaw();
  assert.equal(typeof (await socket.timeout(5_000).emitWithAck('$subscribe', fresh())).offset, 'number');
});

test('a client that retries gets every event through a broken connection, in order', async (t) => {
  const gate = new Gate(shared);
  t.after(() => gate.close());
  const listener = await join(t, shared);
  const heard = hear(listener, 'n');
  const room = fresh();
  await tell(listener, '$subscribe', room);
  const socket = await join(t, await gate.listen(), { retries: 10, ackTimeout: 2_000 });
  const acks = numbers(20).map((n) => ask(socket, '$publish', room, 'n', n).catch((refusal) => refusal));
  gate.breakAll();
  await next(socket, 'disconnect');
  acks.push(ask(socket, '$publish', room, 'n', 'last'));
  await next(socket, 'connect');
  // What was on its way when it broke may have arrived, and comes again.
  const values = (await heard.upTo(['n', 'last'])).map(([, n]) => n);
  assert.deepEqual([...new Set(values)], [...numbers(20), 'last']);
});

for (const [way, transports] of Object.entries(WAYS)) {
  test(`over ${way} a connection whose client never says CONNECT is closed`, async (t) => {
    const { url } = await Server.of(t, { 'client-connect-timeout': '300ms' });
    const raw = new Socket(url, { transports, path: '/socket.io/' });
    t.after(() => raw.close());
    await next(raw, 'close');
  });
}

test('a page of somewhere else is not let in', async (t) => {
  for (const way of Object.keys(WAYS)) {
    const foreign = { origin: 'http://elsewhere.example' };
    await refused(open(t, shared, { way, extraHeaders: foreign }));
    const { url } = await Server.of(t, { 'allow-origin': foreign.origin });
    await join(t, url, { way, extraHeaders: foreign });
  }
});

test('an address without a slash at its end is as good', async (t) => {
  for (const way of Object.keys(WAYS)) await works(shared, await join(t, shared, { way, addTrailingSlash: false }));
});

test('whoever looks for a script finds out where to get it', async () => {
  const answer = await fetch(`${shared}/socket.io/socket.io.js`);
  assert.equal(answer.status, 404);
  assert.match(await answer.text(), /socket\.io-client/);
});

test('an old client is refused where old clients are not wanted, and told why', async (t) => {
  const client = CLIENTS['socket.io-client 2'];
  for (const way of Object.keys(WAYS)) await refused(open(t, shared, { client, way, reconnection: false }));
  const answer = await fetch(`${shared}/socket.io/?EIO=3&transport=polling`);
  assert.equal(answer.status, 400);
  assert.deepEqual(await answer.json(), { code: 5, message: 'Unsupported protocol version' });
});

test('a client remembers that it could upgrade, and begins with a WebSocket the next time', async (t) => {
  await join(t, shared, { way: 'upgrade' });
  const socket = open(t, shared, { way: 'upgrade', rememberUpgrade: true });
  await connected(socket);
  assert.equal(transport(socket), 'websocket');
  await works(shared, socket);
});
