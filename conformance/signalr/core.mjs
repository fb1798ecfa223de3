// What every client must live through on every way: promises in plain words, each with how it is tried. `stage.join` brings a
// client of the kind and on the way that is played, `stage.url` is the server.
import assert from 'node:assert/strict';
import { eventually, hear } from '../common/hearing.mjs';
import { BINARY_PAYLOADS, PAYLOADS, anotherEpoch, fresh, numbers, plain } from '../common/payloads.mjs';
import { api, attended, publish } from '../common/server.mjs';
import { NEWEST, NEWEST_BINARY, ask, assertRefused, fault, isWebSocket, join as joinAs, ownId } from './clients.mjs';

export const CORE = {
  'is connected, by the id under which others see it': async (stage) => {
    const connection = await stage.join();
    const room = fresh();
    await ask(connection, '$subscribe', room);
    const { members: [{ client }] } = await ask(connection, '$presence', room);
    assert.match(client, /^[0-9a-f]{32}$/);
    assert.equal(connection.connectionId, ownId(stage, client));
  },

  'hears what others and the HTTP API publish, in order': async ({ url, join }) => {
    const [ada, bob] = await Promise.all([join(), join()]);
    const room = fresh();
    const heard = hear(ada, 'greeting', 'message');
    const { channel, epoch, offset, ...more } = await ask(ada, '$subscribe', room);
    assert.equal(channel, room);
    assert.deepEqual(more, {});
    assert.deepEqual(await ask(bob, '$publish', room, 'greeting', 'hi', 2), { channel, epoch, offset: offset + 1 });
    assert.deepEqual(await publish(url, { channel, data: { from: 'the API' } }), { channel, epoch, offset: offset + 2 });
    await publish(url, { channel, event: 'greeting', args: ['bye', { n: 3 }] });
    assert.deepEqual(await heard.count(3), [['greeting', 'hi', 2], ['message', { from: 'the API' }], ['greeting', 'bye', { n: 3 }]]);
  },

  'hears events by their names in any case': async ({ url, join }) => {
    const connection = await join();
    const room = fresh();
    await ask(connection, '$subscribe', room);
    const heard = hear(connection, 'priceCHANGED');
    await publish(url, { channel: room, event: 'PriceChanged', data: 1 });
    await ask(connection, '$publish', room, 'pricechanged', 2);
    assert.deepEqual(await heard.count(2), [['priceCHANGED', 1], ['priceCHANGED', 2]]);
  },

  'gets text, numbers and nested values as they were sent': (stage) => roundTrip(stage, PAYLOADS),

  'gets an event without arguments': (stage) => roundTrip(stage, [[]]),

  'gets bytes, in MessagePack as they are and in JSON as Base64': async ({ t, url, join, client }) => {
    const room = fresh();
    const listener = await join();
    const sender = await joinAs(t, url, { client: NEWEST_BINARY });
    const heard = hear(listener, 'sent');
    await ask(listener, '$subscribe', room);
    for (const payload of BYTES) await ask(client.isBinary && !client.isFirst ? listener : sender, '$publish', room, 'sent', ...payload);
    const expected = client.isBinary ? BYTES : BYTES.map(base64);
    assert.deepEqual(plain(await heard.count(BYTES.length)), plain(expected.map((payload) => ['sent', ...payload])));
    const { answer } = await api(url, 'history', { channel: room });
    assert.deepEqual(answer.publications.map(({ args, data }) => args ?? [data]), BYTES.map(base64));
  },

  'gets the right result for each of many invocations under way': async ({ join }) => {
    const connection = await join();
    const rooms = numbers(50).map((n) => fresh(`${n}-`));
    const results = await Promise.all(rooms.map((room, n) => ask(connection, ...(n % 2 ? ['$publish', room, 'event', n] : ['$unsubscribe', room]))));
    assert.deepEqual(results.map(({ channel }) => channel), rooms);
    assert.deepEqual(results.map(({ offset }) => offset), rooms.map((_, n) => (n % 2 ? 1 : undefined)));
  },

  'is told by the result why a verb was not carried out': async ({ join }) => {
    const connection = await join();
    const room = fresh();
    for (const wrong of [['$subscribe', ''], ['$subscribe'], ['$publish', room], ['$publish', room, 'connect', 1], ['$history', 7]]) {
      await assertRefused(connection, 107, ...wrong);
    }
    await ask(connection, '$subscribe', room);
    await assertRefused(connection, 105, '$subscribe', room);
    assert.equal(await fault(connection, '$subscibe', room), "Unknown hub method '$subscibe'");
  },

  'is told that there is no backend, by the result or by an event': async ({ join }) => {
    const connection = await join();
    const refusals = hear(connection, '$error');
    await assertRefused(connection, 108, 'Order', 1, { two: 'three' });
    await connection.send('Order', 1);
    await connection.send('$subscribe', '');
    const found = (await refusals.count(2)).map(([, { message, ...refusal }, ...more]) => [typeof message, refusal, more]);
    assert.deepEqual(found, [['string', { code: 108, event: 'Order' }, []], ['string', { code: 107, event: '$subscribe' }, []]]);
  },

  'needs no result to be heard, in order': async ({ join }) => {
    const [ada, bob] = await Promise.all([join(), join()]);
    const room = fresh();
    const heard = hear(ada, 'n');
    await ask(ada, '$subscribe', room);
    for (const n of numbers(50)) await bob.send('$publish', room, 'n', n);
    assert.deepEqual(await heard.count(50), numbers(50).map((n) => ['n', n]));
  },

  'hears nothing more of a channel that it has left': async ({ url, join }) => {
    const connection = await join();
    const [left, kept] = [fresh('left-'), fresh('kept-')];
    const heard = hear(connection, 'message');
    for (const room of [left, kept]) await ask(connection, '$subscribe', room);
    await publish(url, { channel: left, data: 'before' });
    // It is published when that is answered; it is heard a little later.
    await heard.count(1);
    assert.deepEqual(await ask(connection, '$unsubscribe', left), { channel: left });
    await publish(url, { channel: left, data: 'after' });
    await publish(url, { channel: kept, data: 'last' });
    assert.deepEqual(await heard.upTo(['message', 'last']), [['message', 'before'], ['message', 'last']]);
  },

  'broadcasts to everybody else': async ({ join }) => {
    const [ada, bob] = await Promise.all([join(), join()]);
    const room = fresh();
    const [adas, bobs] = [hear(ada, 'said'), hear(bob, 'said')];
    for (const connection of [ada, bob]) await ask(connection, '$subscribe', room);
    const { offset } = await ask(ada, '$broadcast', room, 'said', 'to the others');
    assert.equal((await ask(ada, '$publish', room, 'said', 'to all')).offset, offset + 1);
    assert.deepEqual(await bobs.count(2), [['said', 'to the others'], ['said', 'to all']]);
    assert.deepEqual(await adas.count(1), [['said', 'to all']]);
  },

  'reads history': async ({ join }) => {
    const connection = await join();
    const room = fresh();
    for (const n of numbers(5)) await ask(connection, '$publish', room, 'counted', n);
    await ask(connection, '$publish', room, 'named', 'a', 'b');
    const { channel, epoch, offset, publications } = await ask(connection, '$history', room);
    assert.equal(channel, room);
    assert.equal(offset, 6);
    const fields = publications.map((p) => [p.channel, p.epoch, p.offset, p.event, p.data ?? p.args]);
    assert.deepEqual(fields, [...numbers(5).map((n) => [room, epoch, n + 1, 'counted', n]), [room, epoch, 6, 'named', ['a', 'b']]]);
    const page = await ask(connection, '$history', room, { limit: 2, since: { epoch, offset: 2 } });
    assert.deepEqual(page.publications.map((p) => p.offset), [3, 4]);
    await assertRefused(connection, 112, '$history', room, { since: { epoch: anotherEpoch(epoch), offset: 2 } });
  },

  'catches up from a position when it subscribes': async ({ join }) => {
    const connection = await join();
    const room = fresh();
    const { epoch, offset } = await ask(connection, '$publish', room, 'counted', 0);
    for (const n of numbers(3, 1)) await ask(connection, '$publish', room, 'counted', n);
    const heard = hear(connection, 'counted');
    assert.deepEqual(await ask(connection, '$subscribe', room, { since: { epoch, offset } }), { channel: room, epoch, offset: offset + 3, recovered: true });
    assert.deepEqual(await heard.count(3), [['counted', 1], ['counted', 2], ['counted', 3]]);
    await ask(connection, '$unsubscribe', room);
    const lost = await ask(connection, '$subscribe', room, { since: { epoch: anotherEpoch(epoch), offset } });
    assert.equal(lost.recovered, false);
  },

  'sees who is present, and no longer who has gone': async ({ join }) => {
    const [ada, bob] = await Promise.all([join(), join()]);
    const room = fresh();
    for (const connection of [ada, bob]) await ask(connection, '$subscribe', room);
    const { members, ...counts } = await ask(ada, '$presence', room);
    assert.deepEqual(counts, { channel: room, clients: 2, users: 0 });
    assert.equal(new Set(members.map(({ client }) => client)).size, 2);
    await bob.stop();
    await eventually(async () => assert.deepEqual(await ask(ada, '$presence', room, { count: true }), { channel: room, clients: 1, users: 0 }));
  },

  'gets 500 publications in order, each once': async ({ url, join, client, way }) => {
    const [ada, bob] = await Promise.all([join(), join()]);
    const room = fresh();
    const [adas, bobs] = [hear(ada, 'n'), hear(bob, 'n')];
    for (const connection of [ada, bob]) await ask(connection, '$subscribe', room);
    // No more at once than `client.in_flight_max`. The first client keeps no order among requests.
    const atOnce = client.isFirst && !isWebSocket(way) ? 1 : 50;
    for (const start of numbers(500 / atOnce)) await Promise.all(numbers(atOnce, start * atOnce).map((n) => ask(ada, '$publish', room, 'n', n)));
    await publish(url, { channel: room, event: 'n', data: 'last' });
    const all = [...numbers(500), 'last'].map((n) => ['n', n]);
    for (const heard of [adas, bobs]) assert.deepEqual(await heard.upTo(['n', 'last']), all);
  },

  'gets what is almost as long as a message may be': async ({ join }) => {
    const [ada, bob] = await Promise.all([join(), join()]);
    const room = fresh();
    const heard = hear(bob, 'long');
    await ask(bob, '$subscribe', room);
    // Of 64 KiB. Letters of two bytes, so that a count of characters would be wrong.
    const texts = ['x'.repeat(65_000), 'é'.repeat(32_500)];
    for (const text of texts) await ask(ada, '$publish', room, 'long', text);
    assert.deepEqual(await heard.count(2), texts.map((text) => ['long', text]));
    await ask(ada, '$history', room, { limit: 1 });
  },

  'hears the channels that its address names': async ({ url, join }) => {
    const rooms = [fresh(), fresh('chat:')];
    const connection = await join({ channels: rooms });
    const heard = hear(connection, 'message');
    await assertRefused(connection, 105, '$subscribe', rooms[0]);
    for (const channel of rooms) await attended(url, channel);
    for (const channel of rooms) await publish(url, { channel, data: channel });
    assert.deepEqual(await heard.count(2), rooms.map((room) => ['message', room]));
  },

  'stops, and starts again as somebody new who is subscribed to nothing': async ({ url, join }) => {
    const connection = await join();
    const ends = hear({ on: (_, note) => connection.onclose(note) }, 'closed');
    const heard = hear(connection, 'message');
    const room = fresh();
    const ids = new Set();
    for (const time of numbers(2)) {
      await ask(connection, '$subscribe', room);
      const { members: [{ client }] } = await ask(connection, '$presence', room);
      ids.add(client);
      await publish(url, { channel: room, data: time });
      await heard.upTo(['message', time]);
      await connection.stop();
      await eventually(async () => assert.equal((await api(url, 'presence', { channel: room, count: true })).answer.clients, 0));
      await connection.start();
    }
    assert.equal((await ask(connection, '$presence', room, { count: true })).clients, 0);
    assert.equal(ids.size, 2);
    assert.deepEqual(ends.all, [['closed', undefined], ['closed', undefined]]);
  },
};

/** The official MessagePack parser knows views of bytes alone, and that of version 1 only those of Node.js. */
const BYTES = BINARY_PAYLOADS.map((payload) => payload.map((value) => (value instanceof ArrayBuffer ? new Uint8Array(value) : value)));

function base64(value) {
  if (ArrayBuffer.isView(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64');
  if (Array.isArray(value)) return value.map(base64);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, base64(inner)]));
}

/** Each list of arguments is published by one client and heard by it, by another, and by the newest in JSON. */
async function roundTrip({ t, url, join }, payloads) {
  const [ada, bob, other] = await Promise.all([join(), join(), joinAs(t, url, { client: NEWEST })]);
  const room = fresh();
  const all = [ada, bob, other].map((connection) => hear(connection, 'sent'));
  for (const connection of [ada, bob, other]) await ask(connection, '$subscribe', room);
  for (const payload of payloads) await ask(ada, '$publish', room, 'sent', ...payload);
  for (const heard of all) assert.deepEqual(await heard.count(payloads.length), payloads.map((payload) => ['sent', ...payload]));
}
