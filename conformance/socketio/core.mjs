// What every client must live through on every way: promises in plain words, each with how it is tried. `stage.join` brings a
// client of the kind and on the way that is played, `stage.url` is the server.
import assert from 'node:assert/strict';
import { Gate } from '../common/gate.mjs';
import { arrival, ask, open, tell, transport, upgraded, connected } from './clients.mjs';
import { assertRefusal, eventually, hear, next } from '../common/hearing.mjs';
import { BINARY_PAYLOADS, PAYLOADS, anotherEpoch, fresh, numbers, plain } from '../common/payloads.mjs';
import { publish } from '../common/server.mjs';

export const CORE = {
  'is connected with an id, on the transport that it asked for': async ({ join, client, way }) => {
    const socket = await join();
    assert.ok(socket.connected);
    assert.equal(transport(socket), arrival(way));
    assert.match(socket.id, /^[\w-]{16,}$/);
    // The Engine.IO sid is a secret; only in version 2 was it everybody's name, too.
    assert.equal(socket.id === socket.io.engine.id, Boolean(client.isV2));
  },

  'hears what others and the HTTP API publish, in order': async ({ url, join }) => {
    const [ada, bob] = await Promise.all([join(), join()]);
    const room = fresh();
    const heard = hear(ada, 'greeting', 'message');
    const { channel, epoch, offset, ...more } = await tell(ada, '$subscribe', room);
    assert.equal(channel, room);
    assert.deepEqual(more, {});
    assert.deepEqual(await tell(bob, '$publish', room, 'greeting', 'hi', 2), { channel, epoch, offset: offset + 1 });
    assert.deepEqual(await publish(url, { channel, data: { from: 'the API' } }), { channel, epoch, offset: offset + 2 });
    await publish(url, { channel, event: 'greeting', args: ['bye', { n: 3 }] });
    assert.deepEqual(await heard.count(3), [['greeting', 'hi', 2], ['message', { from: 'the API' }], ['greeting', 'bye', { n: 3 }]]);
  },

  'gets text, numbers and nested values as they were sent': (stage) => roundTrip(stage, PAYLOADS),

  'gets bytes as they were sent, many and nested': (stage) => roundTrip(stage, BINARY_PAYLOADS),

  'gets an event without arguments': (stage) => roundTrip(stage, [[]]),

  'gets the right ack for each of many events under way': async ({ join }) => {
    const socket = await join();
    const rooms = numbers(50).map((n) => fresh(`${n}-`));
    const answers = await Promise.all(rooms.map((room, n) => ask(socket, ...(n % 2 ? ['$publish', room, 'event', n] : ['$unsubscribe', room]))));
    assert.deepEqual(answers.map(({ channel }) => channel), rooms);
    assert.deepEqual(answers.map(({ offset }) => offset), rooms.map((_, n) => (n % 2 ? 1 : undefined)));
  },

  'is told by the ack why a verb was not carried out': async ({ join }) => {
    const socket = await join();
    const room = fresh();
    for (const wrong of [['$subscribe', ''], ['$subscribe'], ['$publish', room], ['$publish', room, 'connect', 1], ['$history', 7]]) {
      assertRefusal(await ask(socket, ...wrong), 107);
    }
    await tell(socket, '$subscribe', room);
    assertRefusal(await ask(socket, '$subscribe', room), 105);
  },

  'is told that there is no backend, by the ack or by an event': async ({ join }) => {
    const socket = await join();
    const refusals = hear(socket, '$error');
    assertRefusal(await ask(socket, 'order', 1, { two: Buffer.from('three') }), 108);
    socket.emit('order', 1);
    socket.emit('$subscribe', '');
    const found = (await refusals.count(2)).map(([, { message, ...refusal }, ...more]) => [typeof message, refusal, more]);
    assert.deepEqual(found, [['string', { code: 108, event: 'order' }, []], ['string', { code: 107, event: '$subscribe' }, []]]);
  },

  'hears nothing more of a channel that it has left': async ({ url, join }) => {
    const socket = await join();
    const [left, kept] = [fresh('left-'), fresh('kept-')];
    const heard = hear(socket, 'message');
    for (const room of [left, kept]) await tell(socket, '$subscribe', room);
    await publish(url, { channel: left, data: 'before' });
    // It is published when that is answered; it is heard a little later.
    await heard.count(1);
    assert.deepEqual(await tell(socket, '$unsubscribe', left), { channel: left });
    await publish(url, { channel: left, data: 'after' });
    await publish(url, { channel: kept, data: 'last' });
    assert.deepEqual(await heard.upTo(['message', 'last']), [['message', 'before'], ['message', 'last']]);
  },

  'broadcasts to everybody else': async ({ join }) => {
    const [ada, bob] = await Promise.all([join(), join()]);
    const room = fresh();
    const [adas, bobs] = [hear(ada, 'said'), hear(bob, 'said')];
    for (const socket of [ada, bob]) await tell(socket, '$subscribe', room);
    const { offset } = await tell(ada, '$broadcast', room, 'said', 'to the others');
    assert.equal((await tell(ada, '$publish', room, 'said', 'to all')).offset, offset + 1);
    assert.deepEqual(await bobs.count(2), [['said', 'to the others'], ['said', 'to all']]);
    assert.deepEqual(await adas.count(1), [['said', 'to all']]);
  },

  'reads history': async ({ join }) => {
    const socket = await join();
    const room = fresh();
    for (const n of numbers(5)) await tell(socket, '$publish', room, 'counted', n);
    await tell(socket, '$publish', room, 'named', 'a', 'b');
    const { channel, epoch, offset, publications } = await tell(socket, '$history', room);
    assert.equal(channel, room);
    assert.equal(offset, 6);
    const fields = publications.map((p) => [p.channel, p.epoch, p.offset, p.event, p.data ?? p.args]);
    assert.deepEqual(fields, [...numbers(5).map((n) => [room, epoch, n + 1, 'counted', n]), [room, epoch, 6, 'named', ['a', 'b']]]);
    const page = await tell(socket, '$history', room, { limit: 2, since: { epoch, offset: 2 } });
    assert.deepEqual(page.publications.map((p) => p.offset), [3, 4]);
    assertRefusal(await ask(socket, '$history', room, { since: { epoch: anotherEpoch(epoch), offset: 2 } }), 112);
  },

  'catches up from a position when it subscribes': async ({ join }) => {
    const socket = await join();
    const room = fresh();
    const { epoch, offset } = await tell(socket, '$publish', room, 'counted', 0);
    for (const n of numbers(3, 1)) await tell(socket, '$publish', room, 'counted', n);
    const heard = hear(socket, 'counted');
    assert.deepEqual(await tell(socket, '$subscribe', room, { since: { epoch, offset } }), { channel: room, epoch, offset: offset + 3, recovered: true });
    assert.deepEqual(await heard.count(3), [['counted', 1], ['counted', 2], ['counted', 3]]);
    await tell(socket, '$unsubscribe', room);
    const lost = await tell(socket, '$subscribe', room, { since: { epoch: anotherEpoch(epoch), offset } });
    assert.equal(lost.recovered, false);
  },

  'sees who is present, and no longer who has gone': async ({ join }) => {
    const [ada, bob] = await Promise.all([join(), join()]);
    const room = fresh();
    for (const socket of [ada, bob]) await tell(socket, '$subscribe', room);
    const { members, ...counts } = await tell(ada, '$presence', room);
    assert.deepEqual(counts, { channel: room, clients: 2, users: 0 });
    assert.equal(new Set(members.map(({ client }) => client)).size, 2);
    bob.disconnect();
    await eventually(async () => assert.deepEqual(await tell(ada, '$presence', room, { count: true }), { channel: room, clients: 1, users: 0 }));
  },

  'has several namespaces on one connection, and a room is heard in each': async ({ url, join }) => {
    const main = await join();
    const chat = main.io.socket('/chat');
    await connected(chat);
    assert.notEqual(chat.id, main.id);
    assert.ok(chat.id);
    const room = fresh();
    const [mains, chats] = [hear(main, 'message'), hear(chat, 'message')];
    await tell(chat, '$subscribe', room);
    await tell(main, '$subscribe', `chat:${room}`);
    await publish(url, { channel: `chat:${room}`, data: 'by the API' });
    await tell(chat, '$publish', room, 'message', Buffer.from('in /chat'));
    await tell(main, '$publish', `chat:${room}`, 'message', 'in /');
    const all = [['message', 'by the API'], ['message', plain(Buffer.from('in /chat'))], ['message', 'in /']];
    for (const heard of [mains, chats]) assert.deepEqual(plain(await heard.count(3)), all);
    // Without the part before the colon it is another channel.
    await publish(url, { channel: room, data: 'elsewhere' });
    // What is left by one is still heard by the other, and the connection stays.
    chat.disconnect();
    await tell(main, '$publish', `chat:${room}`, 'message', 'last');
    assert.deepEqual(plain(await mains.count(4)), [...all, ['message', 'last']]);
    assert.equal(chats.all.length, 3);
    assert.ok(main.connected);
  },

  'gets 500 publications in order, each once': async ({ url, join }) => {
    const [ada, bob] = await Promise.all([join(), join()]);
    const room = fresh();
    const [adas, bobs] = [hear(ada, 'n'), hear(bob, 'n')];
    for (const socket of [ada, bob]) await tell(socket, '$subscribe', room);
    // No more at once than `client.in_flight_max`.
    for (const tens of numbers(10)) await Promise.all(numbers(50, tens * 50).map((n) => tell(ada, '$publish', room, 'n', n)));
    await publish(url, { channel: room, event: 'n', data: 'last' });
    const all = [...numbers(500), 'last'].map((n) => ['n', n]);
    for (const heard of [adas, bobs]) assert.deepEqual(await heard.upTo(['n', 'last']), all);
  },

  'comes back when its connection breaks': async ({ t, url, client, way }) => {
    const gate = new Gate(url);
    const socket = open(t, await gate.listen(), { client, way });
    t.after(() => gate.close());
    const upgrade = way === 'upgrade' ? upgraded(socket) : null;
    await connected(socket);
    await upgrade;
    const { id } = socket;
    const [lost, back] = [next(socket, 'disconnect'), next(socket, 'connect')];
    gate.cut();
    assert.match((await lost)[0], /^transport (close|error)$/);
    gate.open();
    await back;
    assert.notEqual(socket.id, id);
    const heard = hear(socket, 'message');
    const room = fresh();
    await tell(socket, '$subscribe', room);
    await publish(url, { channel: room, data: 'again' });
    assert.deepEqual(await heard.count(1), [['message', 'again']]);
  },
};

/** Each list of arguments is published by one client and heard by it and another. */
async function roundTrip({ join }, payloads) {
  const [ada, bob] = await Promise.all([join(), join()]);
  const room = fresh();
  const both = [ada, bob].map((socket) => hear(socket, 'sent'));
  for (const socket of [ada, bob]) await tell(socket, '$subscribe', room);
  for (const payload of payloads) await tell(ada, '$publish', room, 'sent', ...payload);
  for (const heard of both) assert.deepEqual(plain(await heard.count(payloads.length)), plain(payloads.map((payload) => ['sent', ...payload])));
}
