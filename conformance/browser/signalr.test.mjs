// @microsoft/signalr in a browser, in pages of another origin than the server's, which it may reach with credentials.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';

const { DUPLEX_PROGRAM, CHROMIUM = '/usr/bin/chromium' } = process.env;
if (!existsSync(CHROMIUM) || !DUPLEX_PROGRAM) {
  console.log('SKIP: SignalR in a browser needs Chromium and the program in DUPLEX_PROGRAM');
  process.exit(0);
}
const { Gate } = await import('../common/gate.mjs');
const { fresh, numbers } = await import('../common/payloads.mjs');
const { CLOSED, Server, api, publish, token } = await import('../common/server.mjs');
const { SignalRPlayer, bytes } = await import('./player.mjs');
const { elsewhere } = await import('./stage.mjs');
const { Browser, eventually } = await import('./window.mjs');

const TRANSPORTS = { WebSockets: 1, ServerSentEvents: 2, LongPolling: 4 };
const WAYS = Object.entries(TRANSPORTS).flatMap(([name, transport]) => ['JSON', 'MessagePack'].map((protocol) => ({ name, transport, protocol })))
  .filter(({ name, protocol }) => !(name === 'ServerSentEvents' && protocol === 'MessagePack'));
let browser;
let server;
let site;
let closeSite;

before(async () => {
  browser = await Browser.launch(CHROMIUM);
  site = await elsewhere({ after: (close) => { closeSite = close; } });
  server = await Server.launch({ 'allow-origin': site });
});
after(async () => {
  await server?.stop();
  closeSite?.();
  await browser.close();
});

/** A client in a page of the other origin. */
async function page(t, options, { at = server.url, origin = site, ...more } = {}) {
  const player = await SignalRPlayer.at(browser, origin);
  t.after(() => player.close());
  await player.connect(`${at}/signalr`, { ...options, ...more });
  return player;
}

/** One that is connected. */
async function enter(t, options, more) {
  const player = await page(t, options, more);
  assert.deepEqual((await player.note()).states, ['connected']);
  return player;
}

const STORIES = {
  'text and bytes of any kind reach both sides of a channel, in order and once': async (t, way) => {
    const channel = fresh();
    const [ada, ben] = [await enter(t, way, { events: ['text'] }), await enter(t, way, { events: ['text'] })];
    for (const player of [ada, ben]) assert.equal((await player.call('$subscribe', channel)).offset, 0);
    const values = ['', 'naïve Ω 漢字 🙂 \u2028 \u001e \\ "quoted"\n', 'x'.repeat(50_000), { deep: [null, -1.5, { empty: [{}] }] }];
    if (way.protocol === 'MessagePack') values.push({ parts: [bytes(numbers(256), 'Uint8Array'), 'and', bytes([], 'Uint8Array')] });
    const expected = [];
    for (const [i, value] of values.entries()) {
      assert.equal((await ben.call('$publish', channel, 'text', value, i)).offset, 2 * i + 1);
      await publish(server.url, { channel, event: 'text', args: ['by the API', i] });
      expected.push(['text', value, i], ['text', 'by the API', i]);
    }
    for (const player of [ada, ben]) {
      await player.gets(...expected);
      await player.hasNothingMore();
      assert.deepEqual((await player.note()).states, ['connected']);
    }
  },

  'what is refused says why, what is broadcast goes to the others, what the backend asks is answered': async (t, way) => {
    const channel = fresh();
    const [ada, ben] = [await enter(t, way, { events: ['say'] }), await enter(t, way, { events: ['say'] })];
    for (const player of [ada, ben]) await player.call('$subscribe', channel);
    assert.deepEqual(await ada.call('$nothing'), { error: "Unknown hub method '$nothing'" });
    assert.match((await ada.call('$subscribe', channel)).error, / \(code 105\)$/);
    await ada.call('$broadcast', channel, 'say', 'to the others');
    await ada.call('$publish', channel, 'say', 'to all');
    const { answer } = await api(server.url, 'request', { channel, event: 'ready?', args: [1, 'two'], timeout_ms: 9_000 });
    assert.deepEqual([answer.expected, answer.replies.map(({ args }) => args)], [2, [[['yes', 2]], [['yes', 2]]]]);
    await ada.gets(['say', 'to all']);
    await ben.gets(['say', 'to the others'], ['say', 'to all']);
  },

  'streams come down and go up': async (t, way) => {
    const channel = fresh();
    const [ada, ben] = [await enter(t, way), await enter(t, way)];
    await ada.follow('room', '$subscribe', channel);
    await ada.is(({ streams }) => streams.room.length === 1, 'subscribed');
    assert.equal((await ben.upload(numbers(50), '$publish', channel, 'n')).count, 50);
    await ada.is(({ streams }) => streams.room.length === 51, 'all of it');
    const { streams: { room } } = await ada.note();
    assert.deepEqual(room.slice(1).map(({ publication }) => publication.data), numbers(50));
    await ada.call('$unsubscribe', channel);
    await ada.is(({ streams }) => streams.room.at(-1) === 'complete', 'complete');
  },

  'a client comes back when its server was killed or drained, and is there again': async (t, way) => {
    const own = await Server.of(t, { 'allow-origin': site, 'drain-spread': '100ms' });
    const ada = await enter(t, way, { at: own.url, events: ['message'] });
    for (const [round, signal] of ['SIGKILL', 'SIGTERM'].entries()) {
      await own.end(signal);
      await own.start();
      await ada.is(({ states }) => states.join() === ['connected', ...numbers(round + 1).flatMap(() => ['reconnecting', 'connected'])].join(), 'back again');
      await ada.call('$subscribe', 'room');
      await publish(own.url, { channel: 'room', data: signal });
      await ada.gets(['message', signal]);
    }
  },

  'a client whose token is revoked stays away, one with a bad token hears why': async (t, way) => {
    const own = await Server.of(t, { 'allow-origin': site }, CLOSED);
    const good = token('ada');
    const ada = await enter(t, way, { at: own.url, token: good });
    await ada.call('$subscribe', 'chat:room');
    assert.deepEqual((await api(own.url, 'presence', { channel: 'chat:room' })).answer.members.map(({ user }) => user), ['ada']);
    await api(own.url, 'revoke', { user: 'ada' });
    await ada.is(({ states }) => /^closed: Server returned an error on close: .*revoked/.test(states.at(-1)), 'sent away');
    for (const [bad, why] of [[good, /\brevoked\b[^]*: Status code '403'$/], ['nonsense', /\btoken\b[^]*: Status code '401'$/]]) {
      const [refusal] = (await (await page(t, way, { at: own.url, token: bad })).note()).states;
      assert.match(refusal, /^refused: Failed to complete negotiation with the server: /);
      assert.match(refusal, why);
    }
  },
};

for (const { name, transport, protocol } of WAYS) {
  describe(`over ${name} in ${protocol}`, () => {
    for (const [promise, play] of Object.entries(STORIES)) test(promise, (t) => play(t, { transport, protocol }));
  });
}

for (const protocol of ['JSON', 'MessagePack']) {
  test(`a connection that keeps its state outlives its sockets, in ${protocol}`, async (t) => {
    const gate = new Gate(server.url);
    t.after(() => gate.close());
    const ada = await enter(t, { transport: TRANSPORTS.WebSockets, protocol }, { at: await gate.listen(), isStateful: true, events: ['n'] });
    const id = await ada.id();
    const channel = fresh();
    await ada.call('$subscribe', channel);
    for (const round of numbers(5)) {
      const both = numbers(10).map((n) => [ada.call('$publish', channel, 'n', 'up', round, n), publish(server.url, { channel, event: 'n', args: ['down', round, n] })]);
      gate.breakAll();
      await Promise.all(both.flat());
    }
    await ada.is(({ events }) => events.length >= 100, 'all of it');
    const { events, states } = await ada.note();
    assert.deepEqual(states, ['connected']);
    assert.equal(await ada.id(), id);
    for (const way of ['up', 'down']) {
      const got = events.filter(([, from]) => from === way).map(([, , round, n]) => round * 10 + n);
      assert.deepEqual(way === 'up' ? got : [...got].sort((a, b) => a - b), numbers(50), way);
    }
  });

  test(`a client that may choose its transport takes a WebSocket, in ${protocol}`, async (t) => {
    const ada = await enter(t, { protocol });
    await ada.call('$subscribe', fresh());
    await eventually(async () => assert.match(await ada.transport(), /./));
  });
}

test('without negotiation a page needs no answer it may read', async (t) => {
  const ada = await enter(t, { transport: TRANSPORTS.WebSockets, protocol: 'JSON', skipNegotiation: true }, { events: ['message'] });
  const channel = fresh();
  await ada.call('$subscribe', channel);
  await publish(server.url, { channel, data: 1 });
  await ada.gets(['message', 1]);
});

test('a page of an origin that is not allowed does not get in', async (t) => {
  const stranger = await elsewhere(t);
  for (const { transport, protocol } of WAYS) {
    const outside = await page(t, { transport, protocol }, { origin: stranger });
    assert.match((await outside.note()).states[0], /^refused: /);
  }
});
