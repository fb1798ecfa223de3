// Stateful reconnect: the network breaks, and neither side notices more than a delay.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Gate } from '../common/gate.mjs';
import { eventually, hear } from '../common/hearing.mjs';
import { fresh, numbers } from '../common/payloads.mjs';
import { Server, api, publish, shared } from '../common/server.mjs';
import { NEWEST, NEWEST_BINARY, Subject, WAYS, ask, join, publications, subscribe, turns } from './clients.mjs';

const STATEFUL = WAYS['WebSockets with stateful reconnect'];

/** A connection that keeps its state, through a gate. */
async function behindGate(t, { url = shared, ...options }) {
  const gate = new Gate(url);
  t.after(() => gate.close());
  const connection = await join(t, await gate.listen(), { way: STATEFUL, reconnect: true, ...options });
  return { connection, gate, states: turns(connection), id: connection.connectionId };
}

/** Breaks the connection several times, while something goes on. */
async function breaks(gate, times) {
  for (let n = 0; n < times; n += 1) {
    await pause(150);
    gate.breakAll();
  }
}

/** Nobody has noticed anything. */
async function isAsItWas({ connection, states, id }) {
  assert.deepEqual(states.all, []);
  assert.equal(connection.connectionId, id);
  assert.equal(connection.state, 'Connected');
}

const STORIES = {
  'what is published both ways arrives once and in order, however often the connection breaks': async (t, client) => {
    const member = await behindGate(t, { client });
    const other = await join(t, shared, { client });
    const room = fresh();
    const [own, others] = [hear(member.connection, 'up', 'down'), hear(other, 'up', 'down')];
    for (const connection of [member.connection, other]) await ask(connection, '$subscribe', room);
    let isOver = false;
    const breaking = breaks(member.gate, 6).then(() => { isOver = true; });
    const results = [];
    for (let n = 0; !isOver; n += 1) {
      results.push(ask(member.connection, '$publish', room, 'up', n));
      await publish(shared, { channel: room, event: 'down', data: n });
      // What a client has not acknowledged, once a second, must fit into what the server keeps.
      await pause(10);
    }
    await breaking;
    const offsets = (await Promise.all(results)).map(({ offset }) => offset);
    assert.deepEqual(offsets, [...offsets].sort((a, b) => a - b));
    await ask(member.connection, '$publish', room, 'up', 'last');
    const last = ['up', 'last'];
    const expected = (await others.upTo(last));
    assert.deepEqual(await own.upTo(last), expected);
    for (const event of ['up', 'down']) {
      const values = expected.filter(([name, n]) => name === event && n !== 'last').map(([, n]) => n);
      assert.deepEqual(values, numbers(results.length), event);
    }
    await isAsItWas(member);
  },

  'what is asked just before the connection breaks is carried out once, and answered': async (t, client) => {
    const member = await behindGate(t, { client });
    const room = fresh();
    const counts = [];
    for (const round of numbers(10)) {
      // Some have arrived when it breaks, some have not; some were answered, some not.
      const asked = numbers(10).map((n) => ask(member.connection, '$publish', room, 'n', round * 10 + n));
      if (round % 2) await pause(round);
      member.gate.breakAll();
      counts.push(...(await Promise.all(asked)).map(({ offset }) => offset));
    }
    assert.deepEqual(counts, numbers(100, 1));
    const { publications: kept } = await ask(member.connection, '$history', room);
    assert.deepEqual(kept.map(({ data }) => data), numbers(100));
    await isAsItWas(member);
  },

  'streams go on, down and up': async (t, client) => {
    const member = await behindGate(t, { client });
    const room = fresh();
    const { heard } = await subscribe(member.connection, room);
    const subject = new Subject();
    const result = ask(member.connection, '$publish', room, 'n', subject);
    const breaking = breaks(member.gate, 4);
    for (const n of numbers(100)) {
      subject.next(n);
      await pause(5);
    }
    subject.complete();
    await breaking;
    assert.equal((await result).count, 100);
    assert.deepEqual(publications(await heard.count(101)), numbers(100).map((n) => ['n', n]));
    await isAsItWas(member);
  },

  'what is published while the client is away comes when it is back, and it has been present all the time': async (t, client) => {
    const member = await behindGate(t, { client });
    const room = fresh();
    const heard = hear(member.connection, 'message');
    await ask(member.connection, '$subscribe', room);
    for (const round of numbers(3)) {
      // New connections wait in the gate, so the client does not give up.
      member.gate.hold();
      member.gate.breakAll();
      for (const n of numbers(20, round * 20)) await publish(shared, { channel: room, data: n });
      assert.equal((await api(shared, 'presence', { channel: room, count: true })).answer.clients, 1);
      member.gate.thaw();
      await heard.count((round + 1) * 20);
    }
    assert.deepEqual(heard.all, numbers(60).map((n) => ['message', n]));
    await isAsItWas(member);
  },

  'a request of the backend is answered over a connection that broke': async (t, client) => {
    const member = await behindGate(t, { client });
    member.connection.on('ready?', async () => {
      member.gate.breakAll();
      return 'yes';
    });
    const { answer } = await api(shared, 'request', { client: member.id, event: 'ready?', timeout_ms: 9_000 });
    assert.deepEqual(answer.replies, [{ client: member.id, args: ['yes'] }]);
    await isAsItWas(member);
  },

  'many more messages than are kept are sent, since each is acknowledged': async (t, client) => {
    const member = await behindGate(t, { client });
    const room = fresh();
    const heard = hear(member.connection, 'n');
    await ask(member.connection, '$subscribe', room);
    // A megabyte each way; the client sends no more than 100 kB that are not acknowledged.
    const text = 'x'.repeat(20_000);
    for (const n of numbers(50)) await ask(member.connection, '$publish', room, 'n', n, text);
    assert.deepEqual((await heard.count(50)).map(([, n]) => n), numbers(50));
    // The client acknowledges once a second.
    await pause(1_200);
    member.gate.breakAll();
    await ask(member.connection, '$publish', room, 'n', 'last');
    await heard.upTo(['n', 'last']);
    await isAsItWas(member);
  },

  'to stop is to be gone at once': async (t, client) => {
    const member = await behindGate(t, { client });
    const room = fresh();
    await ask(member.connection, '$subscribe', room);
    await member.connection.stop();
    await eventually(async () => assert.equal((await api(shared, 'presence', { channel: room, count: true })).answer.clients, 0), 2_000);
    assert.deepEqual(member.states.all, [['closed']]);
  },

  'where the server has forgotten the client, it begins anew, and says so': async (t, client) => {
    const server = await Server.of(t);
    const member = await behindGate(t, { client, url: server.url });
    await server.end('SIGKILL');
    await server.start();
    await member.states.count(2);
    const [[lost], [back, id]] = member.states.all;
    assert.deepEqual([lost, back], ['reconnecting', 'reconnected']);
    assert.notEqual(id, member.id);
    assert.equal(member.connection.connectionId, id);
    await ask(member.connection, '$subscribe', fresh());
  },

  'more than the server keeps for a client that is away makes it begin anew': async (t, client) => {
    const server = await Server.of(t, { 'session-retained-bytes-max': '4KiB' });
    const member = await behindGate(t, { client, url: server.url });
    const room = fresh();
    await ask(member.connection, '$subscribe', room);
    const { epoch } = await ask(member.connection, '$history', room);
    const sent = numbers(80).map((n) => ({ n, text: 'x'.repeat(3_000) }));
    // In one go, so that some of it is in the network and lost with it.
    member.gate.hold();
    for (const data of sent) await publish(server.url, { channel: room, data });
    member.gate.breakAll();
    member.gate.thaw();
    // Whether it begins anew or not, nothing is lost with a position.
    await eventually(async () => assert.equal(member.connection.state, 'Connected'));
    await member.states.count(2);
    const { heard } = await subscribe(member.connection, room, { since: { epoch, offset: 0 } });
    assert.deepEqual(publications(await heard.count(81)).map(([, { n }]) => n), numbers(80));
  },

  'the server drains: the client begins anew on the next one': async (t, client) => {
    const server = await Server.of(t, { 'drain-spread': '100ms' });
    const member = await behindGate(t, { client, url: server.url });
    await server.end('SIGTERM');
    await server.start();
    await member.states.count(2);
    assert.deepEqual(member.states.all.map(([turn]) => turn), ['reconnecting', 'reconnected']);
    await ask(member.connection, '$subscribe', fresh());
  },
};

for (const [name, client] of Object.entries({ JSON: NEWEST, MessagePack: NEWEST_BINARY })) {
  describe(`in ${name}`, { concurrency: 3 }, () => {
    for (const [promise, play] of Object.entries(STORIES)) test(promise, (t) => play(t, client));
  });
}
