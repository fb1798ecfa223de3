// What a backend asks clients over HTTP, and what they answer.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { fresh, numbers } from '../common/payloads.mjs';
import { api, shared } from '../common/server.mjs';
import { CLIENTS, ask, join, newest, turns } from './clients.mjs';

async function request(body) {
  const { status, answer } = await api(shared, 'request', { timeout_ms: 9_000, ...body });
  assert.equal(status, 200, JSON.stringify(answer));
  return answer;
}

/** The replies without who gave them. */
const said = ({ replies }) => replies.map(({ client, ...reply }) => reply);

async function member(stage, room, handlers = {}) {
  const connection = await stage.join();
  await ask(connection, '$subscribe', room);
  for (const [event, handler] of Object.entries(handlers)) connection.on(event, handler);
  const { members } = await ask(connection, '$presence', room);
  return { connection, id: members.at(-1).client };
}

const ANSWERS = {
  'a value': async (stage) => {
    const room = fresh();
    const { id } = await member(stage, room, { 'Ready?': ({ round }, extra) => ({ yes: [round + 1, extra] }) });
    const answer = await request({ channel: room, event: 'Ready?', args: [{ round: 3 }, 'é'] });
    assert.deepEqual(answer, { expected: 1, received: 1, replies: [{ client: id, args: [{ yes: [4, 'é'] }] }] });
  },

  'values of any kind': async (stage) => {
    const room = fresh();
    const values = [null, false, 0, '', 'text', [], {}, 1.5];
    await member(stage, room, { pick: (index) => values[index] });
    for (const [index, value] of values.entries()) {
      assert.deepEqual(said(await request({ channel: room, event: 'pick', data: index })), [{ args: [value] }]);
    }
  },

  'bytes': async (stage) => {
    if (!stage.client.isBinary) return;
    const room = fresh();
    await member(stage, room, { bytes: () => Buffer.from([0, 1, 254, 255]) });
    assert.deepEqual(said(await request({ channel: room, event: 'bytes' })), [{ args: ['AAH+/w=='] }]);
  },

  'a value that took a while': async (stage) => {
    const room = fresh();
    await member(stage, room, { slow: () => new Promise((resolve) => setTimeout(resolve, 100, 'done')) });
    assert.deepEqual(said(await request({ channel: room, event: 'slow' })), [{ args: ['done'] }]);
  },

  'an error': async (stage) => {
    const room = fresh();
    const { connection } = await member(stage, room, { fail: () => { throw new Error('no paper'); } });
    assert.deepEqual(said(await request({ channel: room, event: 'fail' })), [{ error: 'Error: no paper' }]);
    assert.equal(connection.state, 'Connected');
  },

  'that it has nothing to say': async (stage) => {
    const room = fresh();
    await member(stage, room, { silent: () => {} });
    for (const event of ['silent', 'unheard of']) {
      assert.deepEqual(said(await request({ channel: room, event })), [{ error: "Client didn't provide a result." }]);
    }
  },

  'together with everybody in the channel': async (stage) => {
    const room = fresh();
    const all = [];
    for (const n of numbers(4)) {
      all.push(await member(stage, room, { who: () => { if (n === 3) throw new Error('not me'); return n; } }));
    }
    const { expected, received, replies } = await request({ channel: room, event: 'who' });
    assert.deepEqual([expected, received], [4, 4]);
    const outcomes = replies.map(({ args, error }) => args?.[0] ?? error);
    assert.deepEqual(outcomes.sort(), [0, 1, 2, 'Error: not me']);
    assert.equal(new Set(replies.map(({ client }) => client)).size, 4);
  },

  'alone, by its id': async (stage) => {
    const room = fresh();
    const { connection, id } = await member(stage, room, { who: () => 'me' });
    await member(stage, room, { who: () => 'somebody else' });
    const client = connection.connectionId ?? id;
    assert.deepEqual(said(await request({ client, event: 'who' })), [{ args: ['me'] }]);
  },

  'many requests at once, each its own': async (stage) => {
    const room = fresh();
    await member(stage, room, { double: (n) => n * 2 });
    const answers = await Promise.all(numbers(30).map((n) => request({ channel: room, event: 'double', data: n })));
    assert.deepEqual(answers.map((answer) => said(answer)[0].args[0]), numbers(30).map((n) => n * 2));
  },

  'not, and is not waited for beyond the time': async (stage) => {
    const room = fresh();
    const { connection } = await member(stage, room, { never: () => new Promise(() => {}) });
    assert.deepEqual(await request({ channel: room, event: 'never', timeout_ms: 100 }), { expected: 1, received: 0, replies: [] });
    assert.equal((await ask(connection, '$presence', room, { count: true })).clients, 1);
  },

  'not, since it leaves, and is not waited for': async (stage) => {
    const room = fresh();
    const { connection } = await member(stage, room, { leave: () => new Promise(() => { connection.stop(); }) });
    assert.deepEqual(await request({ channel: room, event: 'leave' }), { expected: 1, received: 0, replies: [] });
  },
};

for (const { name, client, way } of newest) {
  describe(`${name}: a client answers`, { concurrency: 4 }, () => {
    for (const [what, play] of Object.entries(ANSWERS)) {
      test(what, (t) => play({ t, client, way, join: () => join(t, shared, { client, way }) }));
    }
  });
}

test('a client of before there were results is not asked, since that would end its connection', async (t) => {
  const room = fresh();
  const join6 = () => join(t, shared, { client: CLIENTS['SignalR 6 in JSON'] });
  const { connection } = await member({ join: join6 }, room, { who: () => 'old' });
  await member({ join: () => join(t, shared) }, room, { who: () => 'new' });
  const states = turns(connection);
  const { expected, replies } = await request({ channel: room, event: 'who' });
  assert.deepEqual([expected, replies.map(({ args }) => args)], [1, [['new']]]);
  await ask(connection, '$history', room);
  assert.deepEqual(states.all, []);
});
