// Servers and networks come and go; clients notice, and come back by themselves. What takes its time goes on beside each other.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import WebSocket from 'ws';
import { Gate } from '../common/gate.mjs';
import { Proxy } from '../common/proxy.mjs';
import { eventually, hear, next } from '../common/hearing.mjs';
import { fresh, numbers } from '../common/payloads.mjs';
import { Server, api, nodes, publish, shared } from '../common/server.mjs';
import { NEWEST, NEWEST_BINARY, WAYS, ask, build, everybody, fault, isWebSocket, join, newest, ownId, refused, turns } from './clients.mjs';

const QUICK = { 'client-heartbeat': '300ms', 'client-pong-timeout': '300ms' };

/** It has what it asks for, as if nothing had happened. */
async function works(url, connection) {
  const room = fresh();
  const heard = hear(connection, 'message');
  connection.onclose((error) => heard.note(['closed', error?.message]));
  await ask(connection, '$subscribe', room);
  await publish(url, { channel: room, data: 'works' });
  await heard.upTo(['message', 'works']);
}

/** It was connected, lost that, and is connected again as somebody new. */
async function comesBack(states, connection, options, lost) {
  await states.count(2);
  // Nodes end one after the other, and it may have come to one that was next.
  await eventually(() => assert.equal(states.all.at(-1)[0], 'reconnected'));
  const times = states.all.length / 2;
  assert.deepEqual(states.all.map(([turn]) => turn), numbers(times).flatMap(() => ['reconnecting', 'reconnected']));
  assert.ok(times <= nodes, `it came back ${times} times`);
  for (const [turn, why] of states.all) if (lost && turn === 'reconnecting') assert.match(why ?? '', lost);
  assert.equal(connection.connectionId, ownId(options, states.all.at(-1)[1]));
}

const COMINGS = {
  'comes back after the server was killed and is there again': async (t, options) => {
    const server = await Server.of(t);
    const connection = await join(t, server.url, { ...options, reconnect: true });
    const states = turns(connection);
    await server.end('SIGKILL');
    await states.count(1);
    await server.start();
    await comesBack(states, connection, options);
    await works(server.url, connection);
  },

  'comes back after the server was drained, which is no error': async (t, options) => {
    const server = await Server.of(t, { 'drain-spread': '100ms' });
    const connection = await join(t, server.url, { ...options, reconnect: true });
    const states = turns(connection);
    await server.end('SIGTERM');
    await server.start();
    await comesBack(states, connection, options, /^$/);
    await works(server.url, connection);
  },

  'that would not come back ends with an error after a kill, and without after a drain': async (t, options) => {
    const server = await Server.of(t, { 'drain-spread': '100ms' });
    for (const [signal, rest] of [['SIGTERM', 1], ['SIGKILL', 2]]) {
      const connection = await join(t, server.url, options);
      const states = turns(connection);
      await server.end(signal);
      const [closed] = await states.count(1);
      // An EventSource does not know why it ended.
      if (!options.way.isTextOnly) assert.equal(closed.length, rest, `${signal}: ${closed}`);
      assert.equal(connection.state, 'Disconnected');
      await server.start();
      await connection.start();
      await works(server.url, connection);
    }
  },

  'stays connected while nothing is said but heartbeats': async (t, options) => {
    // Many heartbeats for each time that would be over without them: machines are busy.
    const { url } = await Server.of(t, { ...QUICK, 'client-pong-timeout': '3s' });
    const connection = build(t, url, options);
    connection.serverTimeoutInMilliseconds = 3_000;
    await connection.start();
    const states = turns(connection);
    await pause(4_000);
    assert.deepEqual(states.all, []);
    await works(url, connection);
  },
};

/** What is otherwise where a connection outlives broken networks: `stateful.test.mjs` is about that. */
const WITHOUT_STATE = {
  'is told of what it has under way that it failed, when the connection breaks': async (t, options) => {
    const gate = new Gate(shared);
    t.after(() => gate.close());
    const connection = await join(t, await gate.listen(), options);
    gate.hold();
    const outcome = fault(connection, '$subscribe', fresh());
    gate.cut();
    assert.ok(await outcome);
  },
};

const WITH_HEARTBEATS = {
  'notices that the server has fallen silent, and comes back': async (t, options) => {
    const { url } = await Server.of(t, QUICK);
    const gate = new Gate(url);
    t.after(() => gate.close());
    const connection = build(t, await gate.listen(), { ...options, reconnect: true });
    connection.serverTimeoutInMilliseconds = 1_000;
    await connection.start();
    const states = turns(connection);
    gate.hold();
    await states.count(1);
    gate.thaw();
    await comesBack(states, connection, options, /^Server timeout elapsed without receiving a message from the server\.$/);
    await works(url, connection);
  },
};

const IN_SOCKETS_WITHOUT_STATE = {
  'that has gone without a word is no longer present once it does not answer pings': async (t, options) => {
    const { url } = await Server.of(t, QUICK);
    const gate = new Gate(url);
    t.after(() => gate.close());
    const connection = await join(t, await gate.listen(), options);
    const room = fresh();
    await ask(connection, '$subscribe', room);
    const clients = async () => (await api(url, 'presence', { channel: room, count: true })).answer.clients;
    assert.equal(await clients(), 1);
    // Older clients send no ping at once, and some never answer one, so it is waited only for those that have.
    await pause(1_000);
    gate.hold();
    // Twice 300 ms, and time for a busy machine.
    await eventually(async () => assert.equal(await clients(), 0), 3_000);
  },
};

const IN_SOCKETS = {
  'that sends too long a message is told so, and stays away': async (t, options) => {
    const { url } = await Server.of(t, { 'websocket-message-bytes-max': '20KiB' });
    const connection = await join(t, url, { ...options, reconnect: true });
    const other = await join(t, url, options);
    const states = turns(connection);
    const room = fresh();
    await ask(connection, '$publish', room, 'n', 'x'.repeat(20_000));
    await assert.rejects(connection.invoke('$publish', room, 'n', 'x'.repeat(21_000)));
    const [[turn, why], ...more] = await states.count(1);
    assert.deepEqual([turn, more], ['closed', []]);
    assert.match(why, /^Server returned an error on close: Connection closed with an error\./);
    assert.equal((await ask(other, '$history', room)).offset, 1);
  },
};

const IN_REQUESTS = {
  'that sends too long a message is told so, and goes on': async (t, options) => {
    const { url } = await Server.of(t, { 'websocket-message-bytes-max': '20KiB' });
    const connection = await join(t, url, options);
    const states = turns(connection);
    const room = fresh();
    await ask(connection, '$publish', room, 'n', 'x'.repeat(20_000));
    await assert.rejects(connection.invoke('$publish', room, 'n', 'x'.repeat(21_000)), /413/);
    await works(url, connection);
    assert.deepEqual(states.all, []);
  },

  'that is gone is no longer present after a while': async (t, options) => {
    const { url } = await Server.of(t, { 'session-linger': '1s' });
    const gate = new Gate(url);
    t.after(() => gate.close());
    const connection = await join(t, await gate.listen(), options);
    const room = fresh();
    await ask(connection, '$subscribe', room);
    gate.cut();
    await eventually(async () => assert.equal((await api(url, 'presence', { channel: room, count: true })).answer.clients, 0), 4_000);
  },
};

function stories(way) {
  const inSockets = way.isStateful ? IN_SOCKETS : { ...IN_SOCKETS, ...IN_SOCKETS_WITHOUT_STATE, ...WITH_HEARTBEATS };
  const inRequests = way.isTextOnly ? { ...IN_REQUESTS, ...WITH_HEARTBEATS } : IN_REQUESTS;
  return { ...COMINGS, ...(way.isStateful ? {} : WITHOUT_STATE), ...(isWebSocket(way) ? inSockets : inRequests) };
}

// Most of it is waiting.
describe('clients', { concurrency: 3 }, () => {
  describe('with the times that a server has if it is not told otherwise', { concurrency: 20 }, () => {
    for (const { name, client, way } of newest) {
      test(`${name} a client that only sends, each second, hears the server often enough`, async (t) => {
        const connection = build(t, shared, { client, way });
        connection.serverTimeoutInMilliseconds = 20_000;
        await connection.start();
        const states = turns(connection);
        const room = fresh();
        for (const n of numbers(23)) {
          await connection.send('$publish', room, 'n', n);
          await pause(1_000);
        }
        assert.deepEqual(states.all, []);
        assert.equal((await ask(connection, '$history', room, { limit: 1 })).offset, 23);
      });

      test(`${name} a client that says nothing stays connected`, async (t) => {
        const connection = build(t, shared, { client, way });
        connection.serverTimeoutInMilliseconds = 20_000;
        await connection.start();
        const states = turns(connection);
        await pause(23_000);
        assert.deepEqual(states.all, []);
        await works(shared, connection);
      });
    }
  });

  for (const { name, client, way } of everybody) {
    describe(name, { concurrency: 4 }, () => {
      for (const [promise, play] of Object.entries(stories(way))) test(promise, (t) => play(t, { client, way }));
    });
  }
});

test('a WebSocket whose client never says what it speaks is closed', async (t) => {
  const { url } = await Server.of(t, { 'client-connect-timeout': '300ms' });
  const socket = new WebSocket(`${url.replace('http', 'ws')}/signalr`);
  t.after(() => socket.terminate());
  const closed = next(socket, 'close');
  const [text] = await next(socket, 'message');
  assert.equal(`${text}`, '{"error":"Handshake was canceled."}\u001e');
  await closed;
});

describe('a client that may choose its transport', () => {
  const choose = (t, url, client) => join(t, url, { client, way: {} });
  const chosen = ({ connection }) => connection.transport.constructor.name;

  for (const [protocol, client, fallback] of [['JSON', NEWEST, 'ServerSentEventsTransport'], ['MessagePack', NEWEST_BINARY, 'LongPollingTransport']]) {
    test(`takes a WebSocket in ${protocol}, and ${fallback} where none gets through`, async (t) => {
      const direct = await choose(t, shared, client);
      assert.equal(chosen(direct), 'WebSocketTransport');
      const proxy = new Proxy(shared);
      t.after(() => proxy.close());
      const around = await choose(t, await proxy.listen(), client);
      assert.equal(chosen(around), fallback);
      await works(shared, around);
    });
  }

  test('cannot take Server-Sent Events for MessagePack', async (t) => {
    const { message } = await refused(build(t, shared, { client: NEWEST_BINARY, way: WAYS.ServerSentEvents }));
    assert.match(message, /ServerSentEvents failed: Error: 'ServerSentEvents' does not support Binary\./);
  });
});

test('a place that is no hub is not found', async (t) => {
  const { message } = await refused(build(t, shared, { hub: '/nowhere' }));
  assert.match(message, /Status code '404' Either this is not a SignalR endpoint or there is a proxy blocking the connection\.$/);
});

test('a page of somewhere else is not let in', async (t) => {
  for (const way of Object.values(WAYS)) {
    const headers = { Origin: 'http://elsewhere.example' };
    await refused(build(t, shared, { way, headers }));
    const { url } = await Server.of(t, { 'allow-origin': headers.Origin });
    await join(t, url, { way, headers });
  }
});

test('headers and cookies that the application adds do no harm', async (t) => {
  for (const { client, way } of everybody) {
    await works(shared, await join(t, shared, { client, way, headers: { 'X-App': 'one', Cookie: 'theme=dark; other=1', 'X-Requested-With': 'app' } }));
  }
});

test('a hub may be a namespace, and there may be several', async (t) => {
  const { url } = await Server.of(t, {}, '[signalr]\nhubs = ["/signalr", "/chathub=chat"]\n[auth]\nanonymous = true\n[api]\nkeys = ["suite:a key that only this suite knows"]\n[namespace.chat]\nallow.subscribe = "anyone"\nallow.publish = "anyone"\n');
  const [chat, whole] = [await join(t, url, { hub: '/chathub', channels: ['lobby'] }), await join(t, url)];
  const heard = [chat, whole].map((connection) => hear(connection, 'said'));
  await ask(whole, '$subscribe', 'chat:lobby');
  await publish(url, { channel: 'chat:lobby', event: 'said', data: 'by the API' });
  // Answers name channels as everybody knows them.
  assert.equal((await ask(chat, '$publish', 'lobby', 'said', 'in the hub')).channel, 'chat:lobby');
  assert.equal((await ask(whole, '$publish', 'chat:lobby', 'said', 'by its whole name')).channel, 'chat:lobby');
  for (const each of heard) assert.deepEqual(await each.count(3), ['by the API', 'in the hub', 'by its whole name'].map((text) => ['said', text]));
});

test('a poll that is overtaken ends without anything, and so does the last', async (t) => {
  const { url } = await Server.of(t);
  const negotiation = await fetch(`${url}/signalr/negotiate?negotiateVersion=1`, { method: 'POST' });
  const { connectionToken } = await negotiation.json();
  const request = async (method) => {
    const response = await fetch(`${url}/signalr?id=${connectionToken}`, { method });
    return [response.status, response.headers.get('content-length'), await response.text()];
  };
  assert.deepEqual(await request('GET'), [200, '0', '']);
  const overtaken = request('GET');
  await pause(100);
  const last = request('GET');
  assert.deepEqual(await overtaken, [204, null, '']);
  assert.equal((await request('DELETE'))[0], 202);
  assert.deepEqual(await last, [204, null, '']);
  assert.equal((await request('GET'))[0], 404);
});
