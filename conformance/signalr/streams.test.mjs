// Streams: a subscription as one, down; publications from one, up.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { eventually, hear, within } from '../common/hearing.mjs';
import { anotherEpoch, fresh, numbers, plain } from '../common/payloads.mjs';
import { api, publish, shared } from '../common/server.mjs';
import { NEWEST_BINARY, Subject, ask, assertFault, assertRefused, everybody, fault, follow, join, publications, subscribe } from './clients.mjs';

const clients = async (channel) => (await api(shared, 'presence', { channel, count: true })).answer.clients;

const DOWN = {
  'a subscription tells where it begins, and then what is published': async ({ join }) => {
    const connection = await join();
    const room = fresh();
    const { heard, subscribed: { epoch, ...subscribed } } = await subscribe(connection, room);
    assert.equal(typeof epoch, 'string');
    assert.deepEqual(subscribed, { channel: room, offset: 0 });
    // Nothing of it comes to handlers.
    const handled = hear(connection, 'said', 'message');
    await publish(shared, { channel: room, data: { n: 1 } });
    await ask(connection, '$publish', room, 'said', 'two', [2]);
    const [first, second] = (await heard.count(3)).slice(1).map(([{ publication }]) => publication);
    assert.deepEqual(first, { channel: room, epoch, offset: 1, event: 'message', data: { n: 1 }, time: first.time });
    const { time, client } = second;
    assert.deepEqual(second, { channel: room, epoch, offset: 2, event: 'said', args: ['two', [2]], time, client });
    assert.match(client, /^[0-9a-f]{32}$/);
    assert.ok(Math.abs(Date.now() - time) < 60_000, `${time}`);
    assert.deepEqual(handled.all, []);
  },

  'who stops listening is no longer subscribed, and may subscribe again': async ({ join }) => {
    const connection = await join();
    const room = fresh();
    const { heard, subscribed } = await subscribe(connection, room);
    assert.equal(await clients(room), 1);
    await assertRefused(connection, 105, '$subscribe', room);
    heard.dispose();
    await eventually(async () => assert.equal(await clients(room), 0));
    await publish(shared, { channel: room, data: 'missed' });
    const again = await subscribe(connection, room, { since: subscribed });
    assert.deepEqual(publications(await again.heard.count(2)), [['message', 'missed']]);
    assert.deepEqual(heard.all, [[{ subscribed }]]);
  },

  'to unsubscribe completes the stream': async ({ join }) => {
    const connection = await join();
    const room = fresh();
    const { heard } = await subscribe(connection, room);
    assert.deepEqual(await ask(connection, '$unsubscribe', room), { channel: room });
    assert.equal((await heard.count(2))[1], 'complete');
    assert.equal(await clients(room), 0);
  },

  'whoever comes back has missed nothing, and hears nothing twice': async ({ join }) => {
    const room = fresh();
    const first = await join();
    const { heard, subscribed: { epoch } } = await subscribe(first, room);
    const published = numbers(20).map((n) => ['message', n]);
    for (const n of numbers(5)) await publish(shared, { channel: room, data: n });
    const { offset } = (await heard.count(6)).at(-1)[0].publication;
    await first.stop();
    assert.deepEqual(publications(heard.all), published.slice(0, 5));
    for (const n of numbers(10, 5)) await publish(shared, { channel: room, data: n });
    const second = await join();
    const back = subscribe(second, room, { since: { epoch, offset } });
    // Some come while it is recovering.
    for (const n of numbers(5, 15)) await publish(shared, { channel: room, data: n });
    const { heard: more, subscribed } = await back;
    assert.equal(subscribed.recovered, true);
    await publish(shared, { channel: room, data: 'last' });
    assert.deepEqual(publications(await more.count(17)), [...published.slice(5), ['message', 'last']]);
  },

  'a position that is no longer known is not recovered, and said to be': async ({ join }) => {
    const connection = await join();
    const room = fresh();
    const { epoch } = await publish(shared, { channel: room, data: 1 });
    const { subscribed } = await subscribe(connection, room, { since: { epoch: anotherEpoch(epoch), offset: 0 } });
    assert.deepEqual(subscribed, { channel: room, epoch, offset: 1, recovered: false });
  },

  'a subscription that is refused ends with why': async ({ join }) => {
    const connection = await join();
    const room = fresh();
    await ask(connection, '$subscribe', room);
    for (const [code, ...args] of [[105, room], [107, ''], [107]]) {
      const [{ error }] = await follow(connection, '$subscribe', ...args).count(1);
      assertFault(error, code, '$subscribe');
    }
    // The first subscription is as it was.
    const heard = hear(connection, 'message');
    await publish(shared, { channel: room, data: 'still here' });
    await heard.count(1);
  },

  'what is no stream is not streamed, and what is not known is not known': async ({ join }) => {
    const connection = await join();
    const room = fresh();
    for (const [method, ...args] of [['$publish', room, 'said', 1], ['$history', room], ['$presence', room], ['$unsubscribe', room]]) {
      const [{ error }] = await follow(connection, method, ...args).count(1);
      assert.equal(error, `The client attempted to invoke the non-streaming '${method}' method with a streaming invocation.`);
    }
    assert.deepEqual(await follow(connection, '$nothing').count(1), [{ error: "Unknown hub method '$nothing'" }]);
    const [{ error }] = await follow(connection, 'Numbers', 3).count(1);
    assertFault(error, 108, 'Numbers');
    assert.equal((await ask(connection, '$history', room)).offset, 0);
  },

  'several streams and a subscription go on beside each other': async ({ join }) => {
    const connection = await join();
    const rooms = numbers(5).map((n) => fresh(`${n}-`));
    const streams = await Promise.all(rooms.map((room) => subscribe(connection, room)));
    const handled = hear(connection, 'message');
    const other = fresh();
    await ask(connection, '$subscribe', other);
    await Promise.all([...rooms, other].map(async (channel) => {
      for (const n of numbers(20)) await publish(shared, { channel, data: n });
    }));
    for (const { heard } of streams) assert.deepEqual(publications(await heard.count(21)), numbers(20).map((n) => ['message', n]));
    assert.deepEqual(await handled.count(20), numbers(20).map((n) => ['message', n]));
  },
};

/** Sends what an upload is made of, once the invocation is on its way. */
function upload(connection, method, args, play) {
  const subject = new Subject();
  const result = within(connection.invoke(method, ...args, subject), `the result of ${method}`);
  play(subject);
  return result;
}

/** Over long polling each item is a request, one after the other, and the client complains if it is stopped before the last. */
async function everythingSent(connection) {
  for (const n of numbers(8)) assert.equal((await ask(connection, '$unsubscribe', `${n}`)).channel, `${n}`);
}

const UP = {
  'each item of a stream is a publication, and the result is the last': async ({ join, client }) => {
    const [ada, bob] = await Promise.all([join(), join()]);
    const room = fresh();
    const heard = hear(bob, 'reading');
    await ask(bob, '$subscribe', room);
    const items = [1, 'two', { three: [3, null] }, null, 'x'.repeat(5_000), ...(client.isBinary ? [Buffer.from([1, 2, 255])] : [])];
    const { epoch, ...result } = await upload(ada, '$publish', [room, 'reading'], (subject) => {
      for (const item of items) subject.next(item);
      subject.complete();
    });
    assert.equal(typeof epoch, 'string');
    assert.deepEqual(result, { channel: room, offset: items.length, count: items.length });
    assert.deepEqual(plain(await heard.count(items.length)), plain(items.map((item) => ['reading', item])));
  },

  'a stream without items publishes nothing': async ({ join }) => {
    const connection = await join();
    const room = fresh();
    assert.deepEqual(await upload(connection, '$publish', [room, 'reading'], (subject) => subject.complete()), { channel: room, count: 0 });
    assert.equal((await ask(connection, '$history', room)).offset, 0);
  },

  'what comes in a stream may be for everybody else': async ({ join }) => {
    const [ada, bob] = await Promise.all([join(), join()]);
    const room = fresh();
    const [adas, bobs] = [hear(ada, 'n'), hear(bob, 'n')];
    for (const connection of [ada, bob]) await ask(connection, '$subscribe', room);
    await upload(ada, '$broadcast', [room, 'n'], (subject) => {
      for (const n of numbers(10)) subject.next(n);
      subject.complete();
    });
    await ask(bob, '$publish', room, 'n', 'last');
    assert.deepEqual(await bobs.count(11), [...numbers(10), 'last'].map((n) => ['n', n]));
    assert.deepEqual(await adas.upTo(['n', 'last']), [['n', 'last']]);
  },

  'a stream that breaks off fails the invocation; what came before stays': async ({ join }) => {
    const connection = await join();
    const room = fresh();
    const outcome = upload(connection, '$publish', [room, 'n'], (subject) => {
      subject.next('before');
      subject.error(new Error('the sensor is broken'));
    });
    await assert.rejects(outcome, /the sensor is broken/);
    const { publications: kept } = await ask(connection, '$history', room);
    assert.deepEqual(kept.map(({ data }) => data), ['before']);
  },

  'a refused item fails the invocation, and what comes after it is ignored': async ({ join }) => {
    const connection = await join();
    const room = fresh();
    const outcome = upload(connection, '$publish', [room, 'connect'], (subject) => {
      for (const n of numbers(5)) subject.next(n);
      subject.complete();
    });
    await assert.rejects(outcome, ({ message }) => assertFault(message, 107, '$publish') === undefined);
    await everythingSent(connection);
    assert.equal((await ask(connection, '$history', room)).offset, 0);
  },

  'two streams go up at once, each in its order': async ({ join }) => {
    const [ada, bob] = await Promise.all([join(), join()]);
    const room = fresh();
    const heard = hear(bob, 'a', 'b');
    await ask(bob, '$subscribe', room);
    const subjects = [new Subject(), new Subject()];
    const results = ['a', 'b'].map((event, which) => ask(ada, '$publish', room, event, subjects[which]));
    for (const n of numbers(30)) for (const subject of subjects) subject.next(n);
    for (const subject of subjects) subject.complete();
    assert.deepEqual((await Promise.all(results)).map(({ count }) => count), [30, 30]);
    const all = await heard.count(60);
    for (const event of ['a', 'b']) assert.deepEqual(all.filter(([name]) => name === event).map(([, n]) => n), numbers(30));
  },

  'without a result, a stream is published all the same': async ({ join }) => {
    const [ada, bob] = await Promise.all([join(), join()]);
    const room = fresh();
    const heard = hear(bob, 'n');
    await ask(bob, '$subscribe', room);
    const subject = new Subject();
    await ada.send('$publish', room, 'n', subject);
    for (const n of numbers(5)) subject.next(n);
    subject.complete();
    assert.deepEqual(await heard.count(5), numbers(5).map((n) => ['n', n]));
    await everythingSent(ada);
  },
};

for (const { name, client, way } of everybody) {
  describe(name, () => {
    for (const [promise, play] of [...Object.entries(DOWN), ...Object.entries(UP)]) {
      test(promise, (t) => play({ t, client, way, join: () => join(t, shared, { client, way }) }));
    }
  });
}

test('a connection has a hundred open streams and no more, and is not lost by asking for another', async (t) => {
  const connection = await join(t, shared);
  const streams = [];
  // Fewer at once than commands may be under way.
  for (const half of [numbers(50), numbers(50, 50)]) {
    streams.push(...await Promise.all(half.map((n) => subscribe(connection, fresh(`${n}-`)))));
  }
  const room = fresh();
  const [{ error }] = await follow(connection, '$subscribe', room).count(1);
  assert.ok(error);
  assert.ok(await fault(connection, '$publish', room, 'n', new Subject()));
  assert.equal(await clients(room), 0);
  // Where one ends there is room for another.
  await ask(connection, '$unsubscribe', streams[0].subscribed.channel);
  await subscribe(connection, room);
});

test('bytes come down a stream as bytes', async (t) => {
  const connection = await join(t, shared, { client: NEWEST_BINARY });
  const room = fresh();
  const { heard } = await subscribe(connection, room);
  const args = ['name', Buffer.from([0, 1, 254, 255]), { deep: [Buffer.from('é')] }];
  await ask(connection, '$publish', room, 'file', ...args);
  assert.deepEqual(plain(publications(await heard.count(2))), plain([['file', ...args]]));
});
