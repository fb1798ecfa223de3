// Connection state recovery as the client of version 4 knows it: who comes back in time gets what was missed, once and in order.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Gate } from '../common/gate.mjs';
import { WAYS, connected, join, tell } from './clients.mjs';
import { Heard, next } from '../common/hearing.mjs';
import { fresh, numbers, plain } from '../common/payloads.mjs';
import { Server, publish, shared } from '../common/server.mjs';

const RECOVERY = { 'socketio-recovery': true };

let server;
let url;
before(async () => {
  server = await Server.launch(RECOVERY);
  url = server.url;
});
after(() => server?.stop());

/** The events without the offset, which the client leaves behind their arguments where the server offers recovery. */
function hearStamped(socket, ...events) {
  const heard = new Heard();
  for (const event of events) {
    socket.on(event, (...args) => {
      const offset = args.pop();
      heard.note(typeof offset === 'string' ? [event, ...args] : [event, 'without an offset', ...args, offset]);
    });
  }
  return heard;
}

/** How a connection ends without the namespace being left. */
const ENDS = {
  'the client closes its engine': {
    through: async () => ({ address: url, open: () => {} }),
    end: ({ socket }) => socket.io.engine.close(),
  },
  'the network is cut': {
    through: async (t) => {
      const gate = new Gate(url);
      t.after(() => gate.close());
      return { gate, address: await gate.listen(), open: () => gate.open() };
    },
    end: ({ gate }) => gate.cut(),
  },
};

/** A socket that is subscribed, and a way to take it off and let it back. */
async function subscriber(t, way, { through, end }, rooms) {
  const path = await through(t);
  const socket = await join(t, path.address, { way });
  assert.ok(!socket.recovered);
  const heard = hearStamped(socket, 'n', 'last');
  for (const room of rooms) await tell(socket, '$subscribe', room);
  return {
    socket,
    heard,
    async away(play) {
      // While it is away it does not try to come back.
      socket.io.reconnection(false);
      const lost = next(socket, 'disconnect');
      end({ socket, ...path });
      await lost;
      await play();
      path.open();
      const back = connected(socket);
      socket.connect();
      await back;
    },
  };
}

const say = (channel, event, ...args) => publish(url, { channel, event, args });

const STORIES = {
  'it gets what it missed in all its channels, once and in order': async (bring) => {
    const [one, two] = [fresh(), fresh('chat:')];
    const { socket, heard, away } = await bring([one, two]);
    const { id } = socket;
    const rooms = [one, two];
    for (const n of numbers(4)) await say(rooms[n % 2], 'n', n);
    await heard.count(4);
    await away(async () => { for (const n of numbers(20, 4)) await say(rooms[n % 2], 'n', n); });
    assert.equal(socket.recovered, true);
    assert.equal(socket.id, id);
    for (const n of numbers(4, 24)) await say(rooms[n % 2], 'n', n);
    for (const [half, room] of rooms.entries()) await say(room, 'last', half);
    await Promise.all([heard.upTo(['last', 0]), heard.upTo(['last', 1])]);
    const values = heard.all.filter(([event]) => event === 'n').map(([, n]) => n);
    for (const half of [0, 1]) assert.deepEqual(values.filter((n) => n % 2 === half), numbers(14).map((n) => 2 * n + half));
  },

  // Channel by channel, other than from the official server: order is a matter of channels here.
  'what it missed in several channels comes once, each channel in its order': async (bring) => {
    const rooms = [fresh(), fresh(), fresh('chat:')];
    const { socket, heard, away } = await bring(rooms);
    await away(async () => { for (const n of numbers(12)) await say(rooms[n % 3], 'n', n); });
    assert.equal(socket.recovered, true);
    const missed = (await heard.count(12)).map(([, n]) => n);
    for (const place of [0, 1, 2]) {
      assert.deepEqual(missed.filter((n) => n % 3 === place), numbers(12).filter((n) => n % 3 === place));
    }
  },

  'it is recovered though it never got an event': async (bring) => {
    const room = fresh();
    const { socket, heard, away } = await bring([room]);
    await away(async () => { for (const n of numbers(3)) await say(room, 'n', n); });
    assert.equal(socket.recovered, true);
    assert.deepEqual(await heard.count(3), numbers(3).map((n) => ['n', n]));
    await say(room, 'last');
    assert.equal((await heard.upTo(['last'])).length, 4);
  },

  'it is recovered though nothing happened': async (bring) => {
    const room = fresh();
    const { socket, heard, away } = await bring([room]);
    await say(room, 'n', 0);
    await heard.count(1);
    await away(async () => {});
    assert.equal(socket.recovered, true);
    await say(room, 'last');
    assert.deepEqual(await heard.upTo(['last']), [['n', 0], ['last']]);
  },

  'it is recovered time after time': async (bring) => {
    const room = fresh();
    const { socket, heard, away } = await bring([room]);
    for (const round of numbers(3)) {
      await say(room, 'n', 2 * round);
      // An event that comes while it closes its engine the client keeps for later without noting the offset, and so gets it twice.
      await heard.count(2 * round + 1);
      await away(() => say(room, 'n', 2 * round + 1));
      assert.equal(socket.recovered, true);
    }
    await say(room, 'last');
    assert.deepEqual(await heard.upTo(['last']), [...numbers(6).map((n) => ['n', n]), ['last']]);
  },

  'it gets bytes, texts at the end and events without arguments as they were sent': async (bring) => {
    const room = fresh();
    const { socket, heard, away } = await bring([room]);
    const other = await join(bring.t, url);
    const sent = [['text'], ['one', 'two'], [Buffer.from([1, 2, 3])], [{ deep: [Buffer.from('4')] }, 'text'], [], [1]];
    const tellAll = async () => { for (const args of sent) await tell(other, '$publish', room, 'n', ...args); };
    await tellAll();
    await heard.count(sent.length);
    await away(tellAll);
    assert.equal(socket.recovered, true);
    assert.deepEqual(plain(await heard.count(2 * sent.length)), plain([...sent, ...sent].map((args) => ['n', ...args])));
  },

  'acks are as ever, and what it left it does not get': async (bring) => {
    const [kept, left] = [fresh(), fresh()];
    const { socket, heard, away } = await bring([kept, left]);
    await tell(socket, '$publish', kept, 'n', 0);
    await tell(socket, '$unsubscribe', left);
    await away(async () => {
      await say(left, 'n', 'not this');
      await say(kept, 'n', 1);
    });
    assert.equal(socket.recovered, true);
    const { offset } = await tell(socket, '$publish', kept, 'last');
    assert.equal(offset, 3);
    assert.deepEqual(await heard.upTo(['last']), [['n', 0], ['n', 1], ['last']]);
  },

  'each namespace of the connection is recovered': async (bring) => {
    const room = fresh();
    const { socket, heard, away } = await bring([`chat:${room}`]);
    const chat = socket.io.socket('/chat');
    await connected(chat);
    const chats = hearStamped(chat, 'n', 'last');
    await tell(chat, '$subscribe', room);
    await say(`chat:${room}`, 'n', 0);
    await Promise.all([heard.count(1), chats.count(1)]);
    const back = new Promise((resolve) => chat.once('disconnect', () => resolve(connected(chat))));
    await away(() => say(`chat:${room}`, 'n', 1));
    await back;
    assert.deepEqual([socket.recovered, chat.recovered], [true, true]);
    await say(`chat:${room}`, 'last');
    for (const each of [heard, chats]) assert.deepEqual(await each.upTo(['last']), [['n', 0], ['n', 1], ['last']]);
  },
};

for (const [how, end] of Object.entries(ENDS)) {
  for (const way of Object.keys(WAYS)) {
    describe(`over ${way}, when ${how},`, () => {
      for (const [promise, play] of Object.entries(STORIES)) {
        test(promise, (t) => play(Object.assign((rooms) => subscriber(t, way, end, rooms), { t })));
      }
    });
  }
}

const [atOnce] = Object.values(ENDS);

test('whoever leaves by itself is not recovered', async (t) => {
  const room = fresh();
  const { socket, heard } = await subscriber(t, 'websocket', atOnce, [room]);
  const { id } = socket;
  await say(room, 'n', 0);
  await heard.count(1);
  socket.disconnect();
  await say(room, 'n', 1);
  socket.connect();
  await connected(socket);
  assert.ok(!socket.recovered);
  assert.notEqual(socket.id, id);
  // It is subscribed to nothing, so that it can subscribe again.
  await tell(socket, '$subscribe', room);
  await say(room, 'last');
  assert.deepEqual(await heard.upTo(['last']), [['n', 0], ['last']]);
});

test('whoever comes back too late is somebody new, and subscribed to nothing', async (t) => {
  const quick = await Server.of(t, { ...RECOVERY, 'socketio-recovery-ttl': '1s' });
  const socket = await join(t, quick.url, { reconnection: false });
  const heard = hearStamped(socket, 'n');
  const [room, { id }] = [fresh(), socket];
  const tellAll = (data) => publish(quick.url, { channel: room, event: 'n', data });
  await tell(socket, '$subscribe', room);
  await tellAll(0);
  await heard.count(1);
  const lost = next(socket, 'disconnect');
  socket.io.engine.close();
  await lost;
  await tellAll(1);
  // Nobody is told when the time is over: it is what is tried here.
  await pause(1_500);
  const back = connected(socket);
  socket.connect();
  await back;
  assert.equal(socket.recovered, false);
  assert.notEqual(socket.id, id);
  await tell(socket, '$subscribe', room);
  await tellAll(2);
  assert.deepEqual(await heard.count(2), [['n', 0], ['n', 2]]);
});

test('without the option nobody is recovered', async (t) => {
  const socket = await join(t, shared);
  const lost = next(socket, 'disconnect');
  socket.io.engine.close();
  await lost;
  await connected(socket);
  assert.ok(!socket.recovered);
});

test('a server that was restarted recovers nobody, and everybody is served', async (t) => {
  const own = await Server.of(t, RECOVERY);
  const socket = await join(t, own.url);
  const heard = hearStamped(socket, 'n');
  const room = fresh();
  await tell(socket, '$subscribe', room);
  await publish(own.url, { channel: room, event: 'n', data: 0 });
  await heard.count(1);
  // Until the server is there again, its attempts fail.
  const back = next(socket, 'connect', 30_000);
  await own.end('SIGKILL');
  await own.start();
  await back;
  assert.ok(!socket.recovered);
  await tell(socket, '$subscribe', room);
  await publish(own.url, { channel: room, event: 'n', data: 1 });
  assert.deepEqual(await heard.count(2), [['n', 0], ['n', 1]]);
});
