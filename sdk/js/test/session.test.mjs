// Conversations without a WebSocket, with a scripted server.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { eventually, listen, next, withServer } from './support.mjs';

const RESPONSES = ['sse', 'stream', 'poll'];
const paths = (server) => server.requests.filter((request) => !/message|end/.test(request));

for (const transport of RESPONSES) {
  test(`a conversation over ${transport}`, () => withServer(async (server, client) => {
    const own = client({ transports: [transport] });
    const news = own.subscribe('news');
    const heard = listen(news);
    await next(news, 'subscribed');
    assert.equal(own.transport, transport);
    for (let i = 1; i <= 5; i++) assert.equal((await own.publish('news', i)).offset, i);
    await eventually(() => heard.length === 5);
    assert.equal(await own.call('echo', 'ü🦀'), 'ü🦀');
    own.close();
    await eventually(() => server.sessions.size === 0);
    assert.deepEqual(heard, [1, 2, 3, 4, 5]);
  }));

  test(`the connect command and subscriptions are the body that opens a session for ${transport}`, () => withServer(async (server, client) => {
    const own = client({ transports: [transport] });
    await next(own.subscribe('news'), 'subscribed');
    assert.deepEqual(server.messages, ['[{"id":1,"connect":{}},{"id":2,"subscribe":{"channel":"news"}}]']);
  }));

  test(`a response over ${transport} that breaks at any byte costs nothing and doubles nothing`, () => withServer(async (server, client) => {
    for (let cut = 0; cut < 700; cut += 7) {
      const channel = `news${cut}`;
      const own = client({ transports: [transport] });
      server.rules.cutAfter = cut;
      const news = own.subscribe(channel);
      const heard = listen(news);
      setTimeout(() => { server.rules.cutAfter = Infinity; }, 15);
      await next(news, 'subscribed');
      await Promise.all(['ü', '🦀', 'three'].map((data) => own.publish(channel, data)));
      await eventually(() => heard.length === 3);
      assert.deepEqual(heard, ['ü', '🦀', 'three'], `cut after ${cut}`);
      assert.equal(server.commands.filter(([kind, body]) => kind === 'publish' && body.channel === channel).length, 3);
      own.close();
    }
  }));
}

test('a WebSocket that is refused is followed by events at once', () => withServer(async (server, client) => {
  server.rules.sockets = 'refused';
  const own = client();
  const states = [];
  own.on('state', (state) => states.push(state));
  await own.ping();
  assert.deepEqual(paths(server), ['WS', 'POST session', 'GET sse']);
  assert.deepEqual(states, ['connecting', 'connected']);
}));

test('a WebSocket that never opens is followed by events', () => withServer(async (server, client) => {
  server.rules.sockets = 'silent';
  const own = client();
  await own.ping();
  assert.equal(own.transport, 'sse');
}));

test('where responses are held back until they are complete, polls work within three seconds', () => withServer(async (server, client) => {
  Object.assign(server.rules, { sockets: 'refused', buffers: true });
  const own = client({ times: { attach: 1_000 } });
  const news = own.subscribe('news');
  const heard = listen(news);
  const began = performance.now();
  await next(news, 'subscribed');
  assert.ok(performance.now() - began < 3_000);
  assert.deepEqual(paths(server).slice(0, 5), ['WS', 'POST session', 'GET sse', 'GET stream', 'GET poll']);
  assert.equal(server.commands.filter(([kind]) => kind === 'connect').length, 1);
  await news.publish('a');
  await eventually(() => heard.length === 1);
}));

test('what worked is tried first the next time', () => withServer(async (server, client) => {
  server.rules.sockets = 'refused';
  server.rules.refuses.set('/sse', 502);
  await client().ping();
  server.requests.length = 0;
  const own = client();
  await own.ping();
  assert.deepEqual(paths(server), ['POST session', 'GET stream']);
}));

test('storage that throws is no obstacle, and storage that works is used', () => withServer(async (server, client) => {
  server.rules.sockets = 'refused';
  const stored = new Map();
  globalThis.document = {};
  Object.defineProperty(globalThis, 'localStorage', { configurable: true, get() { throw new Error('blocked'); } });
  await client().ping();
  const storage = { getItem: (key) => stored.get(key) ?? null, setItem: (key, text) => stored.set(key, text) };
  Object.defineProperty(globalThis, 'localStorage', { configurable: true, value: storage });
  await client().ping();
  assert.match(stored.get(`duplex:${server.url}`), /^sse \d+$/);
  stored.set(`duplex:${server.url}`, `poll ${Date.now() + 1_000}`);
  const own = client();
  await own.ping();
  assert.equal(own.transport, 'poll');
  stored.set(`duplex:${server.url}`, `poll ${Date.now() - 1}`);
  server.requests.length = 0;
  await client().ping();
  assert.equal(server.requests[0], 'WS');
}));
afterEach(() => {
  delete globalThis.document;
  delete globalThis.localStorage;
});

test('a WebSocket that opened here before is waited for, but not for ever', () => withServer(async (server, client) => {
  await client().ping();
  server.rules.sockets = 'refused';
  server.requests.length = 0;
  const own = client();
  await own.ping();
  assert.deepEqual(paths(server), ['WS', 'WS', 'POST session', 'GET sse']);
}));

test('messages whose answer or way was lost are carried out once, in order', () => withServer(async (server, client) => {
  const own = client({ transports: ['sse'] });
  await own.ping();
  server.rules.losesAnswers = 2;
  server.rules.losesPosts = 2;
  const published = [];
  for (let i = 1; i <= 6; i++) published.push((await own.publish('news', i)).offset);
  assert.deepEqual(published, [1, 2, 3, 4, 5, 6]);
  assert.deepEqual(server.channel('news').history.map(({ data }) => data), published);
}));

test('one POST is under way at a time, and what comes meanwhile goes up together', () => withServer(async (server, client) => {
  const own = client({ transports: ['sse'] });
  await own.ping();
  server.messages.length = 0;
  const answers = [];
  for (let i = 0; i < 200; i++) {
    answers.push(own.publish('news', i));
    await Promise.resolve();
  }
  assert.deepEqual((await Promise.all(answers)).map(({ offset }) => offset), Array.from({ length: 200 }, (_, i) => i + 1));
  assert.equal(server.messages.length, 3);
}));

test('a session that the server has forgotten is followed by another, and channels are recovered', () => withServer(async (server, client) => {
  for (const status of [404, 410]) {
    const own = client({ transports: ['sse'] });
    const channel = `news${status}`;
    const news = own.subscribe(channel);
    const heard = listen(news);
    await next(news, 'subscribed');
    server.publish(channel, { data: 1 });
    await eventually(() => heard.length === 1);
    if (status === 404) server.restart();
    else {
      server.rules.refuses.set('/sse', 410);
      [...server.sessions.values()].at(-1).carrier.end();
    }
    server.publish(channel, { data: 2 });
    assert.equal((await next(own, 'disconnected')).code, status);
    server.rules.refuses.clear();
    await eventually(() => heard.length === 2);
    assert.deepEqual([heard, news.recovered], [[1, 2], true]);
  }
}));

test('refusals that name a time are honoured', () => withServer(async (server, client) => {
  server.rules.refuses.set('/session', 503);
  server.rules.headers = { 'retry-after': '60' };
  const own = client({ transports: ['sse'] });
  own.connect();
  const { code, reason, after_ms } = await next(own, 'disconnected');
  assert.deepEqual([code, reason, own.state], [503, 'refused', 'waiting']);
  assert.ok(after_ms >= 60_000 && after_ms <= 75_000);
  server.rules.refuses.clear();
  own.connect();
  await own.ping();
}));

test('a refusal for good is final, unless another token helps', () => withServer(async (server, client) => {
  server.rules.refuses.set('/session', 403);
  const plain = client({ transports: ['sse'], token: 'fixed' });
  plain.connect();
  assert.deepEqual(await next(plain, 'disconnected'), { code: 403, reason: 'refused', after_ms: undefined, reconnect: false });
  const reasons = [];
  const own = client({ transports: ['sse'], token: ({ reason }) => { reasons.push(reason); return 't'; } });
  own.connect();
  await next(own, 'state', (state) => state === 'closed');
  assert.deepEqual(reasons, ['connect', 'expired']);
}));

test('frames that arrived are acknowledged, after a while or many bytes', () => withServer(async (server, client) => {
  for (const [data, acknowledge] of [['x', 20], ['x'.repeat(20_000), 60_000]]) {
    const own = client({ transports: ['stream'], times: { acknowledge } });
    const channel = `news${acknowledge}`;
    const news = own.subscribe(channel);
    await next(news, 'subscribed');
    const session = [...server.sessions.values()].at(-1);
    const messages = server.messages.length;
    server.publish(channel, { data });
    await eventually(() => session.frames.length === 0);
    assert.equal(server.messages.length, messages);
  }
}));

test('a response that falls silent is dead', () => withServer(async (server, client) => {
  server.rules.connected = { heartbeat_ms: 30 };
  const own = client({ transports: ['sse', 'stream'] });
  const news = own.subscribe('news');
  const heard = listen(news);
  await next(news, 'subscribed');
  [...server.sessions.values()][0].carrier.bring = () => {};
  server.publish('news', { data: 1 });
  await next(own, 'transport', (transport) => transport === 'stream');
  await eventually(() => heard.length === 1);
}));

test('a better transport takes over, and nothing is lost or doubled', () => withServer(async (server, client) => {
  for (const transport of RESPONSES) {
    server.rules.sockets = 'refused';
    const own = client({ transports: ['websocket', transport], times: { upgrade: 20, upgradeMax: 20, remember: 0 } });
    const channel = `news-${transport}`;
    const news = own.subscribe(channel);
    const heard = listen(news);
    await next(own, 'transport', (now) => now === transport);
    const published = [];
    let upgraded = false;
    own.on('transport', (now) => { upgraded ||= now === 'websocket'; });
    for (let i = 0; !upgraded || i < 200; i++) {
      if (i === 20) server.rules.sockets = 'open';
      published.push(own.publish(channel, i));
      if (i % 3 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await Promise.all(published);
    await eventually(() => heard.length === published.length);
    assert.deepEqual(heard, published.map((_, i) => i));
    assert.equal(own.state, 'connected');
    assert.equal(server.commands.filter(([kind, body]) => kind === 'publish' && body.channel === channel).length, published.length);
    own.close();
  }
}));

for (const transport of RESPONSES) {
  test(`a WebSocket that is slow to take over from ${transport} gets all it asked for`, () => withServer(async (server, client) => {
    server.rules.sockets = 'refused';
    const own = client({ transports: ['websocket', transport], times: { upgrade: 20, acknowledge: 1 } });
    const news = own.subscribe('news');
    const heard = listen(news);
    const lost = [];
    own.on('disconnected', (end) => lost.push(end));
    await next(own, 'transport', (now) => now === transport);
    server.rules.sockets = 'slow';
    let count = 0;
    while (own.transport !== 'websocket' && count < 1_000) {
      server.publish('news', { data: count++ });
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await eventually(() => heard.length === count);
    assert.deepEqual([heard, lost, own.transport], [Array.from({ length: count }, (_, i) => i), [], 'websocket']);
  }));
}

test('a WebSocket that opens and brings nothing does not end the session', () => withServer(async (server, client) => {
  server.rules.sockets = 'refused';
  const own = client({ transports: ['websocket', 'sse'], times: { open: 20, openMax: 20, attach: 20, upgrade: 20 } });
  const news = own.subscribe('news');
  const heard = listen(news);
  await next(news, 'subscribed');
  server.rules.sockets = 'mute';
  await eventually(() => server.sockets.size > 2);
  await news.publish(1);
  await eventually(() => heard.length === 1);
  assert.deepEqual([server.sessions.size, own.transport], [1, 'sse']);
}));

for (const arrives of [false, true]) {
  test(`a message that ${arrives ? 'arrived' : 'was lost'} with a broken WebSocket is settled although a poll has nothing to tell`, () => withServer(async (server, client) => {
    server.rules.sockets = 'refused';
    const own = client({ transports: ['websocket', 'poll'], times: { upgrade: 20 } });
    own.connect();
    await next(own, 'transport');
    server.rules.sockets = 'open';
    await next(own, 'transport', (now) => now === 'websocket');
    server.rules.sockets = 'refused';
    const [socket] = server.sockets;
    const session = socket.session;
    socket.frozen = true;
    const answer = own.publish('news', 1);
    await Promise.resolve();
    if (arrives) session.receive('{"id":2,"publish":{"channel":"news","data":1}}');
    socket.break();
    assert.equal((await answer).offset, 1);
    assert.equal((await own.publish('news', 2)).offset, 2);
    assert.equal(own.state, 'connected');
  }));
}

test('a WebSocket that carried a session and breaks leaves nothing behind', () => withServer(async (server, client) => {
  server.rules.sockets = 'refused';
  const own = client({ times: { upgrade: 20, upgradeMax: 20, remember: 0 } });
  const news = own.subscribe('news');
  const heard = listen(news);
  await next(own, 'transport');
  server.rules.sockets = 'open';
  await next(own, 'transport', (now) => now === 'websocket');
  const published = [];
  for (let i = 0; i < 300; i++) {
    published.push(own.publish('news', i));
    if (i % 30 === 10) for (const socket of server.sockets) socket.break();
    if (i === 150) server.rules.sockets = 'refused';
    if (i === 250) server.rules.sockets = 'open';
    if (i % 3 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await Promise.all(published);
  await eventually(() => heard.length === 300);
  assert.deepEqual(heard, published.map((_, i) => i));
  assert.equal(server.commands.filter(([kind]) => kind === 'connect').length, 1);
}));

test('a session ends with the reason that the server gives', () => withServer(async (server, client) => {
  const own = client({ transports: ['sse'] });
  await own.ping();
  const session = [...server.sessions.values()][0];
  session.talk.send({ closing: { code: 3507, message: 'revoked', reconnect: false } });
  const { code } = await next(own, 'disconnected');
  assert.deepEqual([code, own.state], [3507, 'closed']);
}));

test('while nothing carries a session, the client says that it is connecting, and commands wait', () => withServer(async (server, client) => {
  const own = client({ transports: ['sse'] });
  await own.ping();
  server.rules.refuses.set('/sse', 502);
  [...server.sessions.values()][0].carrier.end();
  await next(own, 'state', (state) => state === 'connecting');
  const answer = own.publish('news', 1);
  server.rules.refuses.clear();
  assert.equal((await answer).offset, 1);
  assert.deepEqual([own.state, server.sessions.size], ['connected', 1]);
}));

test('a page that goes away ends its session', () => withServer(async (server, client) => {
  const listeners = new Map();
  globalThis.addEventListener = (name, listener) => listeners.set(name, listener);
  const own = client({ transports: ['sse'] });
  await own.ping();
  delete globalThis.addEventListener;
  listeners.get('pagehide')();
  await eventually(() => server.sessions.size === 0);
}));

test('a network that is back is used at once', () => withServer(async (server, client) => {
  const listeners = new Map();
  globalThis.addEventListener = (name, listener) => listeners.set(name, listener);
  server.rules.refuses.set('/session', 503);
  server.rules.headers = { 'retry-after': '60' };
  const own = client({ transports: ['sse'] });
  own.connect();
  await next(own, 'disconnected');
  delete globalThis.addEventListener;
  server.rules.refuses.clear();
  listeners.get('online')();
  await next(own, 'connected');
}));
