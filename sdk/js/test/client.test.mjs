// Conversations over a WebSocket, with a scripted server.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Client, DuplexError } from '../dist/index.js';
import { eventually, listen, next, withServer } from './support.mjs';

const told = (emitter, ...names) => {
  const all = [];
  for (const name of names) emitter.on(name, (value) => all.push(typeof value === 'string' ? value : name));
  return all;
};

test('the first command connects, and close ends it for good', () => withServer(async (server, client) => {
  const own = client();
  const states = told(own, 'state', 'transport', 'connected', 'disconnected');
  assert.equal(own.state, 'idle');
  assert.deepEqual(await own.publish('news', 'hello'), { channel: 'news', epoch: 'e0', offset: 1 });
  assert.equal(own.transport, 'websocket');
  assert.match(own.id, /^client/);
  own.connect();
  own.close();
  own.close();
  assert.deepEqual(states, ['connecting', 'websocket', 'connected', 'connected', 'closed', 'disconnected']);
  await assert.rejects(own.ping(), { code: 108 });
  own.connect();
  assert.ok(await own.ping() >= 0);
}));

test('every command has its answer', () => withServer(async (server, client) => {
  const own = client();
  await own.publish('news', { title: 'ü' }, { event: 'headline' });
  await own.publish('news', undefined, { args: [1, 2] });
  assert.deepEqual((await own.history('news')).publications.map(({ event, data, args }) => [event, data, args]),
    [['headline', { title: 'ü' }, undefined], ['message', undefined, [1, 2]]]);
  assert.equal(await own.call('echo', 7), 7);
  assert.deepEqual(await own.presence('news'), { channel: 'news', clients: 0, users: 0, members: [] });
  assert.deepEqual(await own.presenceStats('news'), { channel: 'news', clients: 0, users: 0 });
  server.rules.errors.set('call', { code: 108, message: 'no backend' });
  await assert.rejects(own.call('echo'), new DuplexError(108, 'no backend'));
}));

test('what is published is told, also by the name of its event', () => withServer(async (server, client) => {
  const own = client();
  const news = own.subscribe('news');
  assert.equal(own.subscribe('news'), news);
  assert.equal(own.subscription('news'), news);
  assert.deepEqual(await next(news, 'subscribed'), { channel: 'news', epoch: 'e0', offset: 0, recovered: undefined });
  assert.equal(news.state, 'subscribed');
  const heard = listen(news);
  const headlines = [];
  news.on('event:headline', ({ data }) => headlines.push(data));
  await news.publish('a');
  await news.publish('b', { event: 'headline' });
  await eventually(() => heard.length === 2);
  assert.deepEqual([heard, headlines, news.position], [['a', 'b'], ['b'], { epoch: 'e0', offset: 2 }]);
}));

test('commands of one tick go up in one message, in order', () => withServer(async (server, client) => {
  const own = client();
  await own.ping();
  server.messages.length = 0;
  own.subscribe('news');
  await Promise.all([own.publish('news', 1), own.publish('news', 2), own.ping()]);
  assert.equal(server.messages.length, 1);
  assert.deepEqual(JSON.parse(server.messages[0]).map((command) => Object.keys(command)[1]), ['subscribe', 'publish', 'publish', 'ping']);
}));

test('many commands of one tick are all carried out', () => withServer(async (server, client) => {
  const own = client();
  await own.ping();
  const published = await Promise.all(Array.from({ length: 1_000 }, (_, i) => own.publish('news', i)));
  assert.deepEqual(published.map(({ offset }) => offset), Array.from({ length: 1_000 }, (_, i) => i + 1));
}));

test('a client that comes back gets what it missed, once', () => withServer(async (server, client) => {
  const own = client();
  const news = own.subscribe('news');
  const heard = listen(news);
  await next(news, 'subscribed');
  server.publish('news', { data: 1 });
  for (const socket of server.sockets) socket.break();
  assert.equal(news.state, 'subscribing');
  server.publish('news', { data: 2 });
  server.publish('news', { data: 3 });
  assert.equal((await next(news, 'subscribed')).recovered, true);
  server.publish('news', { data: 4 });
  await eventually(() => heard.length === 4);
  assert.deepEqual(heard, [1, 2, 3, 4]);
  server.channel('news').epoch = 'another';
  for (const socket of server.sockets) socket.break();
  assert.equal((await next(news, 'subscribed')).recovered, false);
  assert.deepEqual([news.recovered, news.position], [false, { epoch: 'another', offset: 4 }]);
}));

test('a connection that is lost in the middle of recovery begins where it was', () => withServer(async (server, client) => {
  for (let i = 1; i <= 3; i++) server.publish('news', { data: i });
  const own = client();
  const news = own.subscribe('news', { since: { epoch: 'e0', offset: 0 } });
  const heard = listen(news);
  news.once('publication', () => [...server.sockets].forEach((socket) => socket.break()));
  await eventually(() => heard.length === 3);
  assert.deepEqual(heard, [1, 2, 3]);
}));

test('commands that wait for a connection are sent in order when it is there', () => withServer(async (server, client) => {
  server.rules.sockets = 'refused';
  const own = client({ transports: ['websocket'] });
  const answers = [own.publish('news', 1), own.publish('news', 2)];
  await next(own, 'state', (state) => state === 'waiting');
  assert.ok(own.retryAt > Date.now() - 1_000);
  server.rules.sockets = 'open';
  assert.deepEqual((await Promise.all(answers)).map(({ offset }) => offset), [1, 2]);
  assert.equal(own.retryAt, undefined);
}));

test('a command does not wait for a connection for ever', () => withServer(async (server, client) => {
  server.rules.sockets = 'refused';
  const own = client({ transports: ['websocket'], timeout: 30 });
  await assert.rejects(own.publish('news', 1), { code: 108, message: /not sent/ });
}));

test('who gets no answer because the connection broke is told that nothing is known', () => withServer(async (server, client) => {
  const own = client();
  await own.ping();
  const answer = own.call('slow', 'never');
  await eventually(() => server.commands.some(([kind]) => kind === 'call'));
  for (const socket of server.sockets) socket.break();
  await assert.rejects(answer, { code: 114, message: /not known/ });
  await own.ping();
  assert.equal(server.commands.filter(([kind]) => kind === 'call').length, 1);
}));

test('final reasons close the client, and say so to whoever waits', () => withServer(async (server, client) => {
  const own = client();
  const news = own.subscribe('news');
  await next(news, 'subscribed');
  const loop = (async () => { for await (const _ of news); })();
  [...server.sockets][0].finish(3507, 'revoked');
  assert.equal(own.state, 'closed');
  await assert.rejects(loop, { code: 3507 });
  const disconnected = next(own, 'disconnected');
  own.connect();
  await next(own, 'connected');
  [...server.sockets][0].finish(3500, 'invalid token');
  assert.deepEqual(await disconnected, { code: 3500, reason: 'invalid token', reconnect: false });
}));

test('what a server that closes asks for is done', () => withServer(async (server, client) => {
  const own = client();
  await own.ping();
  const closing = (closing) => [...server.sockets][0].bring({ closing });
  const disconnected = next(own, 'disconnected');
  closing({ code: 1012, message: 'server restart', reconnect: true, after_ms: 33 });
  assert.deepEqual(await disconnected, { code: 1012, reason: 'server restart', reconnect: true, after_ms: 33 });
  assert.equal(own.state, 'waiting');
  await next(own, 'connected');
  assert.equal([...server.sockets][0].path, '/ws?returning=true');
  closing({ code: 1012, message: 'do not', reconnect: false });
  assert.equal(own.state, 'closed');
}));

test('a token is asked for again when it has expired, and renewed before', () => withServer(async (server, client) => {
  const reasons = [];
  const own = client({ token: async ({ reason }) => `${reasons.push(reason)}` });
  await own.ping();
  [...server.sockets][0].finish(3005, 'token expired');
  server.rules.connected = { expires_in_ms: 1 };
  await next(own, 'connected');
  await eventually(() => server.commands.some(([kind]) => kind === 'refresh'));
  assert.deepEqual(reasons, ['connect', 'expired', 'refresh']);
  assert.deepEqual(server.commands.filter(([kind]) => /connect|refresh/.test(kind)).map(([, { token }]) => token), ['1', '2', '3']);
}));

test('a token that cannot be renewed is not shown again', () => withServer(async (server, client) => {
  const own = client({ token: 'fixed' });
  await own.ping();
  [...server.sockets][0].finish(3005, 'token expired');
  assert.equal(own.state, 'closed');
}));

test('no token is a reason to try again', () => withServer(async (server, client) => {
  let asked = 0;
  const own = client({ token: () => { if (++asked < 3) throw new Error('offline'); return 't'; } });
  const errors = told(own, 'error');
  await own.ping();
  assert.deepEqual([asked, errors.length], [3, 2]);
}));

test('silence is answered with a ping, and more silence with another connection', () => withServer(async (server, client) => {
  server.rules.connected = { heartbeat_ms: 30 };
  const own = client();
  own.connect();
  await next(own, 'connected');
  await eventually(() => server.commands.some(([kind]) => kind === 'ping'));
  assert.equal(own.state, 'connected');
  [...server.sockets][0].frozen = true;
  const { code } = await next(own, 'disconnected');
  assert.equal(code, 1006);
  await next(own, 'connected');
}));

test('a socket that opens and stays silent is not waited for', () => withServer(async (server, client) => {
  server.rules.sockets = 'silent';
  const own = client({ transports: ['websocket'] });
  own.connect();
  await next(own, 'disconnected');
  server.rules.sockets = 'open';
  await own.ping();
}));

test('channels that the token names surface, and are recovered', () => withServer(async (server, client) => {
  server.rules.given = ['mine', '__proto__'];
  const own = client();
  own.connect();
  const subscription = await next(own, 'subscription', ({ channel }) => channel === '__proto__');
  const heard = listen(subscription);
  server.publish('__proto__', { data: 1 });
  await eventually(() => heard.length === 1);
  for (const socket of server.sockets) socket.break();
  server.publish('__proto__', { data: 2 });
  await eventually(() => heard.length === 2);
  assert.equal(subscription.recovered, true);
  assert.equal(own.subscription('mine').state, 'subscribed');
}));

test('a channel that the token names may be subscribed to as well', () => withServer(async (server, client) => {
  server.rules.given = ['mine'];
  const own = client();
  const mine = own.subscribe('mine');
  const errors = told(mine, 'error', 'unsubscribed');
  const heard = listen(mine);
  await own.ping();
  server.publish('mine', { data: 1 });
  await eventually(() => heard.length === 1);
  assert.deepEqual([mine.state, errors], ['subscribed', []]);
}));

test('names are never keys', () => withServer(async (server, client) => {
  const own = client();
  const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty'];
  const heard = names.map((name) => listen(own.subscribe(name)));
  await own.ping();
  for (const name of names) server.publish(name, { data: name }, name);
  await eventually(() => heard.every((each) => each.length === 1));
  assert.deepEqual(heard.flat(), names);
}));

test('frames of unknown kinds are ignored', () => withServer(async (server, client) => {
  const own = client();
  await own.ping();
  const socket = [...server.sockets][0];
  for (const frame of [{ novelty: {} }, {}, { publication: { channel: 'nobody', epoch: 'e', offset: 1 } }, null, 7, [1]]) socket.bring(frame);
  await own.ping();
}));

test('an error in a listener is reported, and the others are told', () => withServer(async (server, client) => {
  const reported = [];
  globalThis.reportError = (error) => reported.push(error.message);
  const own = client();
  const news = own.subscribe('news');
  news.on('publication', () => { throw new Error('mine'); });
  const heard = listen(news);
  await own.ping();
  server.publish('news', { data: 1 });
  server.publish('news', { data: 2 });
  await eventually(() => heard.length === 2);
  assert.deepEqual(reported, ['mine', 'mine']);
  delete globalThis.reportError;
}));

test('who has unsubscribed hears nothing more, and may come again', () => withServer(async (server, client) => {
  const own = client();
  const news = own.subscribe('news');
  const heard = listen(news);
  await next(news, 'subscribed');
  const done = news.unsubscribe();
  server.publish('news', { data: 'late' });
  await done;
  assert.deepEqual([news.state, heard, own.subscription('news')], ['unsubscribed', [], undefined]);
  const again = own.subscribe('news');
  assert.notEqual(again, news);
  await next(again, 'subscribed');
}));

test('a refusal ends a subscription, unless it may be over soon', () => withServer(async (server, client) => {
  server.rules.errors.set('subscribe', { code: 111, message: 'too many' });
  const own = client();
  const news = own.subscribe('news');
  await next(news, 'error');
  server.rules.errors.delete('subscribe');
  await next(news, 'subscribed');
  server.rules.errors.set('subscribe', { code: 103, message: 'not allowed' });
  const other = own.subscribe('other');
  const loop = (async () => { for await (const _ of other); })();
  assert.equal((await next(other, 'unsubscribed')).code, 103);
  assert.equal(own.subscription('other'), undefined);
  await assert.rejects(loop, { code: 103 });
}));

test('a subscription token is asked for each time', () => withServer(async (server, client) => {
  let count = 0;
  const own = client();
  const news = own.subscribe('news', { token: async ({ channel }) => `${channel}${++count}` });
  await next(news, 'subscribed');
  for (const socket of server.sockets) socket.break();
  await next(news, 'subscribed');
  assert.deepEqual(server.commands.filter(([kind]) => kind === 'subscribe').map(([, { token }]) => token), ['news1', 'news2']);
}));

test('a loop reads publications until the subscription ends', () => withServer(async (server, client) => {
  const own = client();
  const news = own.subscribe('news');
  await next(news, 'subscribed');
  const read = [];
  const loop = (async () => { for await (const { data } of news) read.push(data); })();
  for (let i = 0; i < 5; i++) server.publish('news', { data: i });
  await eventually(() => read.length === 5);
  await news.unsubscribe();
  await loop;
  assert.deepEqual(read, [0, 1, 2, 3, 4]);
}));

test('a loop that reads too slowly is told what it missed: the rest', () => withServer(async (server, client) => {
  const own = client();
  const news = own.subscribe('news');
  await next(news, 'subscribed');
  const read = [];
  let go;
  const gate = new Promise((resolve) => { go = resolve; });
  const loop = (async () => { for await (const { data } of news) { await gate; read.push(data); } })();
  for (let i = 0; i < 1_100; i++) server.publish('news', { data: i });
  go();
  await assert.rejects(loop, { code: 106 });
  assert.deepEqual([read.length >= 1_000, read.length <= 1_002, read.at(-1)], [true, true, read.length - 1]);
  assert.equal(news.state, 'subscribed');
}));

test('an address may have any scheme, a path and a slash at its end', async () => {
  const opened = [];
  class Socket {
    constructor(url) { opened.push(url); }
    close() {}
  }
  for (const url of ['http://a.example', 'https://a.example/', 'ws://a.example:81/duplex/', 'wss://a.example/x/y']) {
    const own = new Client(url, { WebSocket: Socket });
    own.connect();
    await Promise.resolve();
    own.close();
  }
  assert.deepEqual(opened, ['ws://a.example/ws', 'wss://a.example/ws', 'ws://a.example:81/duplex/ws', 'wss://a.example/x/y/ws']);
});

test('without any transport that can be used there is no client', () => {
  delete globalThis.WebSocket;
  assert.throws(() => new Client('http://a.example', { transports: ['websocket'] }), TypeError);
});
