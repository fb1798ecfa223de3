// What applications on SignalR do all day: methods of a hub, called by clients of every kind.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { hear } from '../common/hearing.mjs';
import { numbers, plain } from '../common/payloads.mjs';
import { Application } from './application.mjs';
import { Subject, ask, everybody, fault, follow, join, ownId } from './clients.mjs';

let application;
before(async () => { application = await Application.launch(); });
after(() => application?.stop());

const OBJECT = { Id: 7, Name: 'Ünïcode 漢字', Guid: '00010203-0405-0607-0706-050403020100', Nested: { Flags: [true, false, null], Price: -12.5, '': {} } };

/** Streams what was given, once it is asked for. */
function streamOf(items, end = (subject) => subject.complete()) {
  const subject = new Subject();
  queueMicrotask(() => {
    for (const item of items) subject.next(item);
    end(subject);
  });
  return subject;
}

const METHODS = {
  'a method answers with what it returns': async (connection, { client: { isBinary } }) => {
    const values = [OBJECT, 'text', '', 0, -1.5, true, false, null, [], [[1], 'two', { three: 3 }], ...(isBinary ? [Buffer.from([0, 255]), { Data: Buffer.from('é') }] : [])];
    for (const value of values) assert.deepEqual(plain(await ask(connection, 'Echo', value)), plain(value));
  },

  'a method that returns nothing is answered, too': async (connection) => {
    assert.ok([null, undefined].includes(await ask(connection, 'Nothing')));
  },

  'a moment in time stays one': async (connection, { client: { isBinary } }) => {
    const moment = new Date('2026-11-25T12:34:56.789Z');
    const text = await ask(connection, 'Echo', { When: moment });
    assert.equal(new Date(text.When).getTime(), moment.getTime(), JSON.stringify(text));
    if (!isBinary) assert.equal(text.When, moment.toJSON());
  },

  'a method has several arguments': async (connection) => {
    assert.deepEqual(await ask(connection, 'Join', 1, 'two', { three: [3] }, null), [1, 'two', { three: [3] }, null]);
    assert.deepEqual(await ask(connection, 'Join'), []);
  },

  'a method knows who calls it': async (connection, stage) => {
    const id = await ask(connection, 'WhoAmI');
    assert.match(id, /^[0-9a-f]{32}$/);
    assert.equal(connection.connectionId, ownId(stage, id));
  },

  'a method that fails, is not allowed or not there says so, and the connection stays': async (connection) => {
    assert.equal(await fault(connection, 'Fail', 'too late'), "An unexpected error occurred invoking 'Fail' on the server. HubException: no good: too late (code 107)");
    assert.equal(await fault(connection, 'Forbidden'), "Failed to invoke 'Forbidden' because user is unauthorized: not for everybody (code 103)");
    assert.equal(await fault(connection, 'Missing'), "Unknown hub method 'Missing'");
    // Names are as they are written.
    assert.equal(await fault(connection, 'echo', 1), "Unknown hub method 'echo'");
    assert.equal(await ask(connection, 'Echo', 'still here'), 'still here');
  },

  'a method calls its client, whatever the case of the name, before it answers': async (connection) => {
    const heard = hear(connection, 'message', 'customObject');
    assert.ok([null, undefined].includes(await ask(connection, 'Tell', 'héllo')));
    assert.deepEqual(heard.all, [['message', 'héllo']]);
    await connection.send('TellObject', OBJECT);
    assert.deepEqual(await heard.count(2), [['message', 'héllo'], ['customObject', OBJECT]]);
  },

  'a method that takes its time holds up no other': async (connection) => {
    const order = [];
    const calls = [400, 0].map((wait) => ask(connection, 'Wait', wait).then((waited) => order.push(waited)));
    calls.push(ask(connection, 'Echo', 'at once').then((text) => order.push(text)));
    await Promise.all(calls);
    assert.equal(order.at(-1), 400);
  },

  'many calls at once are answered each with its own': async (connection) => {
    const calls = numbers(60).map((n) => ask(connection, n % 3 ? 'Echo' : 'Wait', n));
    assert.deepEqual(await Promise.all(calls), numbers(60));
  },

  'what is streamed comes item by item': async (connection) => {
    assert.deepEqual(await follow(connection, 'Letters').upTo('complete'), [['a'], ['b'], ['c'], 'complete']);
    assert.deepEqual(await follow(connection, 'NoLetters').upTo('complete'), ['complete']);
    // What is one value is one item.
    assert.deepEqual(await follow(connection, 'Concat', ['x', 'y']).upTo('complete'), [['xy'], 'complete']);
  },

  'a stream that fails says so': async (connection) => {
    const [first] = await follow(connection, 'Fail', 'no stream').count(1);
    assert.deepEqual(first, { error: "An unexpected error occurred invoking 'Fail' on the server. HubException: no good: no stream (code 107)" });
    assert.deepEqual(await follow(connection, 'Missing').count(1), [{ error: "Unknown hub method 'Missing'" }]);
  },

  'a stream that is given up comes no further, and the connection goes on': async (connection) => {
    const heard = follow(connection, 'Wait', 50);
    heard.dispose();
    assert.equal(await ask(connection, 'Wait', 150), 150);
    assert.deepEqual(heard.all, []);
  },

  'a method takes a stream': async (connection) => {
    assert.equal(await ask(connection, 'Concat', streamOf(['he', 'l', '', 'lo é'])), 'hello é');
    assert.equal(await ask(connection, 'Concat', streamOf([])), '');
  },

  'a method takes streams beside other arguments, which come first': async (connection) => {
    const answer = await ask(connection, 'Join', streamOf([1, 2]), 'label', streamOf([{ three: 3 }]), null, streamOf([]));
    assert.deepEqual(answer, ['label', null, [1, 2], [{ three: 3 }], []]);
  },

  'a stream may be answered by a stream': async (connection) => {
    assert.deepEqual(await follow(connection, 'Double', streamOf([1, 2.5, -3])).upTo('complete'), [[2], [5], [-6], 'complete']);
  },

  'a stream that breaks off fails its method': async (connection) => {
    const broken = streamOf(['he'], (subject) => subject.error(new Error('out of paper')));
    assert.match(await fault(connection, 'Concat', broken), /out of paper/);
    assert.equal(await ask(connection, 'Concat', streamOf(['still', ' here'])), 'still here');
  },
};

describe('methods', { concurrency: 4 }, () => {
  for (const { name, client, way } of everybody) {
    describe(name, () => {
      for (const [promise, play] of Object.entries(METHODS)) {
        test(promise, async (t) => play(await join(t, application.url, { client, way }), { client, way }));
      }
    });
  }
});
