// socket.io-client in a browser, over each way to the server, and from pages of other origins.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';

const { DUPLEX_URL, DUPLEX_PROGRAM, CHROMIUM = '/usr/bin/chromium' } = process.env;
if (!existsSync(CHROMIUM) || !DUPLEX_PROGRAM) {
  console.log('SKIP: Socket.IO in a browser needs Chromium and the program in DUPLEX_PROGRAM');
  process.exit(0);
}
if (!DUPLEX_URL) throw new Error('set DUPLEX_URL to the address of a running server');
const { Player, bytes } = await import('./player.mjs');
const { Server, elsewhere, token } = await import('./stage.mjs');
const { Browser, eventually } = await import('./window.mjs');

const url = DUPLEX_URL.replace(/\/$/, '');
const fresh = (name = 'room') => `${name}-${randomUUID().slice(0, 8)}`;
const WAYS = { polling: ['polling'], websocket: ['websocket'], 'polling, then websocket': ['polling', 'websocket'] };
let browser;

before(async () => { browser = await Browser.launch(CHROMIUM); });
after(() => browser.close());

async function publish(publication, at = url) {
  const response = await fetch(`${at}/api/v1/publish`, { method: 'POST', body: JSON.stringify(publication) });
  const answer = await response.json();
  assert.equal(response.status, 200, JSON.stringify(answer));
  return answer;
}

async function devServer(t, ...options) {
  const server = await Server.start(DUPLEX_PROGRAM, options);
  t.after(() => server.stop());
  return server;
}

/** How a client gets to the server. */
class Way {
  constructor(transports) {
    this.transports = transports;
    this.settled = transports.at(-1);
  }

  async enter(t, { at = url, ...options } = {}) {
    const player = await Player.enter(browser, at, { transports: this.transports, ...options });
    t.after(() => player.close());
    return player;
  }

  arrives(player) {
    return eventually(async () => assert.equal(await player.transport(), this.settled));
  }
}

/** It was connected, lost that, and is connected again; what it tried in vain meanwhile does not count. */
const comesBack = (player) => player.is(({ states }) => {
  const turns = states.filter((state) => !state.startsWith('refused: '));
  return /^connected,disconnected: transport (close|error),connected$/.test(turns.join());
}, 'back again');

for (const [name, transports] of Object.entries(WAYS)) {
  describe(`over ${name}`, () => {
    const way = new Way(transports);
    messages(way);
    comings(way);
  });
}

function messages(way) {
  test('text of any kind reaches both sides of a channel, in order and once', async (t) => {
    const channel = fresh();
    const [ada, ben] = [await way.enter(t), await way.enter(t)];
    for (const player of [ada, ben]) {
      const { epoch, ...subscribed } = await player.call('$subscribe', channel);
      assert.deepEqual([subscribed, typeof epoch], [{ channel, offset: 0 }, 'string']);
    }
    const texts = ['', 'plain', 'naïve Ω 漢字 🙂 \u2028 \u001e \\ "quoted"\n', 'x'.repeat(50_000), { deep: [null, -1.5, { empty: [{}] }] }];
    const expected = [];
    for (const [i, text] of texts.entries()) {
      const { offset } = await ben.call('$publish', channel, 'text', text, i);
      assert.equal(offset, 2 * i + 1);
      await publish({ channel, event: 'text', args: [text, 'by the backend'] });
      expected.push(['text', text, i], ['text', text, 'by the backend']);
    }
    for (const player of [ada, ben]) {
      await player.gets(...expected);
      await player.hasNothingMore();
      assert.deepEqual((await player.note()).states, ['connected']);
    }
    await way.arrives(ada);
  });

  test('bytes stay bytes, whatever they were and wherever they stood', async (t) => {
    const channel = fresh();
    const [ada, ben] = [await way.enter(t), await way.enter(t)];
    for (const player of [ada, ben]) await player.call('$subscribe', channel);
    const raw = Array.from({ length: 20_000 }, (_, i) => i % 256);
    for (const as of ['ArrayBuffer', 'Uint8Array', 'Blob']) {
      await ben.call('$publish', channel, 'file', bytes([], as), { parts: [bytes(raw, as), 'and', bytes([0, 255, 30, 52], as)] });
      for (const player of [ada, ben]) await player.gets(['file', bytes([]), { parts: [bytes(raw), 'and', bytes([0, 255, 30, 52])] }]);
    }
    const response = await fetch(`${url}/api/v1/history`, { method: 'POST', body: JSON.stringify({ channel, limit: 1, reverse: true }) });
    const { publications: [last] } = await response.json();
    assert.deepEqual(last.args[1].parts[2], 'AP8eNA==', 'for JSON they are base64');
  });

  test('what a client broadcasts it does not get itself, and what the backend asks it answers', async (t) => {
    const channel = fresh();
    const [ada, ben] = [await way.enter(t), await way.enter(t)];
    for (const player of [ada, ben]) await player.call('$subscribe', channel);
    await ada.call('$broadcast', channel, 'say', 'to the others');
    await ada.call('$publish', channel, 'say', 'to all');
    const body = JSON.stringify({ channel, event: 'ready?', args: [1, 'two'], timeout_ms: 9000 });
    const told = await (await fetch(`${url}/api/v1/request`, { method: 'POST', body })).json();
    assert.deepEqual([told.expected, told.received, told.replies.map(({ args }) => args)], [2, 2, [['yes', 'AP8=', 2], ['yes', 'AP8=', 2]]]);
    await ada.gets(['say', 'to all'], ['ready?', 1, 'two']);
    await ben.gets(['say', 'to the others'], ['say', 'to all'], ['ready?', 1, 'two']);
  });

  test('an acknowledgement says what was done, or why not', async (t) => {
    const ada = await way.enter(t);
    const channel = fresh();
    const { offset } = await ada.call('$publish', channel, 'message', 1);
    assert.equal(offset, 1);
    for (const [event, code] of [[['deal', 'cards'], 108], [['$publish', channel, 'connect', 1], 107], [['$subscribe', ''], 107]]) {
      const { error, ...more } = await ada.call(...event);
      assert.deepEqual([error.code, typeof error.message, more], [code, 'string', {}], JSON.stringify(error));
    }
    await ada.hasNothingMore();
  });
}

function comings(way) {
  test('what is published while a client connects and settles comes without a gap and once', async (t) => {
    const channel = fresh();
    const player = await Player.at(browser, `${url}/healthz`);
    t.after(() => player.close());
    await player.connect(url, { transports: way.transports, query: { channels: channel } });
    let last = 0;
    const flow = async (count) => {
      for (let i = 0; i < count; i += 1) await publish({ channel, data: last += 1 });
    };
    // It is there when the first comes; from then on each has to come.
    await eventually(async () => {
      await flow(1);
      assert.notDeepEqual((await player.note()).events, []);
    });
    await eventually(async () => {
      await flow(5);
      assert.equal(await player.transport(), way.settled);
    });
    await flow(20);
    await player.is(({ events }) => events.at(-1)?.[1] === last, `all until ${last}`);
    const got = (await player.note()).events.map(([, number]) => number);
    assert.deepEqual(got, Array.from({ length: last - got[0] + 1 }, (_, i) => got[0] + i));
  });

  test('a client comes back when its server was killed and is there again', async (t) => {
    const server = await devServer(t);
    const channel = fresh();
    const ada = await way.enter(t, { at: server.url, query: { channels: channel } });
    await way.arrives(ada);
    await server.restart('SIGKILL');
    await comesBack(ada);
    // Its query subscribes it again, soon after it is connected.
    await eventually(async () => assert.equal((await ada.call('$presence', channel, { count: true })).clients, 1));
    await publish({ channel, data: 'again' }, server.url);
    await ada.gets(['message', 'again']);
  });

  test('a client comes back when its server drains and is there again', async (t) => {
    const server = await devServer(t, '--drain-spread', '200ms');
    const ada = await way.enter(t, { at: server.url });
    await way.arrives(ada);
    await server.restart('SIGTERM');
    await comesBack(ada);
    assert.equal((await ada.call('$subscribe', 'room')).channel, 'room');
  });

  test('a client whose token is revoked stays away, one with a bad token hears why', async (t) => {
    const server = await Server.start(DUPLEX_PROGRAM);
    t.after(() => server.stop());
    const good = { token: token('ada', 3600) };
    const ada = await way.enter(t, { at: server.url, auth: good });
    await way.arrives(ada);
    await server.api('revoke', { user: 'ada' });
    await ada.is(({ states }) => states.at(-1) === 'disconnected: io server disconnect', 'sent away');
    assert.equal(await ada.active(), false);
    for (const [auth, refusal] of [[good, /^refused: .*revoked.* \(3507\)$/], [{ token: 'nonsense' }, /^refused: invalid token: .+ \(3500\)$/]]) {
      const late = await Player.at(browser, `${server.url}/healthz`);
      t.after(() => late.close());
      await late.connect(server.url, { transports: way.transports, auth });
      await late.is(({ states }) => states.length > 0, 'refused');
      const { states: [first] } = await late.note();
      assert.match(first, refusal);
      assert.equal(await late.active(), false);
    }
  });
}

describe('a page of another origin', () => {
  for (const [way, transports] of Object.entries(WAYS)) {
    test(`that is allowed gets in over ${way}, one that is not does not`, async (t) => {
      const [friend, stranger] = [await elsewhere(t), await elsewhere(t)];
      const server = await devServer(t, '--allow-origin', friend);
      const channel = fresh();
      const [inside, outside] = [await Player.at(browser, friend), await Player.at(browser, stranger)];
      t.after(() => Promise.all([inside.close(), outside.close()]));
      await inside.connect(server.url, { transports });
      await outside.connect(server.url, { transports, reconnection: false });
      await outside.is(({ states }) => states.length > 0, 'refused');
      assert.match((await outside.note()).states.join(), /^refused: (xhr poll error|websocket error)$/);
      await inside.is(({ states }) => states.at(-1) === 'connected', 'connected');
      await inside.call('$subscribe', channel);
      await inside.call('$publish', channel, 'file', bytes([1, 2, 3], 'Uint8Array'), 'from a friend');
      await inside.gets(['file', bytes([1, 2, 3]), 'from a friend']);
      await eventually(async () => assert.equal(await inside.transport(), transports.at(-1)));
    });
  }
});
