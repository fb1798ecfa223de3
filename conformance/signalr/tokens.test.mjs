// Who a client is, and what follows: on a server that is open to nobody without a token.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { after, before, describe, test } from 'node:test';
import WebSocket from 'ws';
import { hear, next, within } from '../common/hearing.mjs';
import { fresh, numbers } from '../common/payloads.mjs';
import { CLOSED, Server, api, attended, publish, token } from '../common/server.mjs';
import { ask, assertRefused, build, everybody, follow, join, newest, refused, subscribe, turns } from './clients.mjs';

const shows = (shown) => ({ accessTokenFactory: () => shown });
const FORGED = token('ada', {}, 'another secret that is long enough, too');

const closed = (flags) => {
  const own = {};
  before(async () => {
    own.server = await Server.launch(flags, CLOSED);
    own.url = own.server.url;
  });
  after(() => own.server?.stop());
  return own;
};

const EVERYBODY = {
  'with a good token is let in, and hears the channels that the token names': async (t, url, options) => {
    const rooms = [fresh('chat:'), fresh('chat:')];
    const connection = build(t, url, { ...options, ...shows(token('ada', { channels: rooms })) });
    const heard = hear(connection, 'message');
    await connection.start();
    for (const channel of rooms) await attended(url, channel);
    for (const channel of rooms) await publish(url, { channel, data: channel });
    assert.deepEqual(await heard.count(2), rooms.map((room) => ['message', room]));
  },

  'may take its time to fetch a token': async (t, url, options) => {
    const accessTokenFactory = () => new Promise((resolve) => setTimeout(resolve, 50, token('ada')));
    const connection = await join(t, url, { ...options, accessTokenFactory });
    await ask(connection, '$subscribe', fresh());
  },

  'with a forged token, or none, is told so and not let in': async (t, url, options) => {
    for (const shown of [shows(FORGED), {}]) {
      const connection = build(t, url, { ...options, reconnect: true, ...shown });
      const { message } = await refused(connection);
      // A WebSocket that is not opened tells a client nothing.
      if (options.way.skipNegotiation) assert.match(message, /^WebSocket failed to connect\./);
      else assert.match(message, /^Failed to complete negotiation with the server: Error: \w[^:]{10,}.*: Status code '401'$/);
      assert.equal(connection.state, 'Disconnected');
    }
  },

  'whose token is revoked is sent away and does not come back': async (t, url, options) => {
    const user = fresh('user-');
    const shown = shows(token(user));
    const connection = await join(t, url, { ...options, reconnect: true, ...shown });
    const other = await join(t, url, { ...options, ...shows(token('ada')) });
    const states = turns(connection);
    assert.equal((await api(url, 'revoke', { user })).status, 200);
    const [[turn, why], ...more] = await states.count(1);
    assert.deepEqual([turn, more], ['closed', []]);
    assert.match(why, /^Server returned an error on close: .*revoked/);
    assert.equal(connection.state, 'Disconnected');
    await refused(connection);
    await ask(other, '$subscribe', fresh());
  },

  'whose token ends comes back with the next one': async (t, url, options) => {
    // Clocks may differ by 10 s.
    let seconds = -7;
    const accessTokenFactory = () => token('ada', { exp: Math.floor(Date.now() / 1000) + seconds });
    const connection = build(t, url, { ...options, reconnect: true, accessTokenFactory });
    const states = turns(connection);
    await connection.start();
    seconds = 600;
    assert.deepEqual((await states.count(2)).map(([turn]) => turn), ['reconnecting', 'reconnected']);
    await ask(connection, '$subscribe', fresh());
  },

  'is told what its token does not allow': async (t, url, options) => {
    const shown = shows(token('ada', { allow: { subscribe: ['private:a*'] } }));
    const connection = await join(t, url, { ...options, ...shown });
    await ask(connection, '$subscribe', 'private:allowed');
    await assertRefused(connection, 103, '$subscribe', 'private:secret');
    await assertRefused(connection, 103, '$publish', 'private:allowed', 'message', 1);
    await assertRefused(connection, 102, '$subscribe', 'nowhere:room');
    assert.match((await follow(connection, '$subscribe', 'private:secret').count(1))[0].error, /^Failed to invoke '\$subscribe' because user is unauthorized: .+ \(code 103\)$/);
    await ask(connection, '$subscribe', 'private:secret', { token: token('ada', { channel: 'private:secret' }) });
  },

  'may show a newer token while it is connected': async (t, url, options) => {
    const connection = await join(t, url, { ...options, ...shows(token('ada')) });
    const { expires_in_ms, ...more } = await ask(connection, '$refresh', token('ada', { exp: Math.floor(Date.now() / 1000) + 1_000 }));
    assert.deepEqual(more, {});
    assert.ok(expires_in_ms > 900_000 && expires_in_ms <= 1_010_000, `${expires_in_ms}`);
    await assertRefused(connection, 109, '$refresh', token('ada', { exp: 1_000_000_000 }));
    await ask(connection, '$subscribe', fresh());
  },

  'sees who joins and who leaves, by events and in streams': async (t, url, options) => {
    const as = (user, claims) => join(t, url, { ...options, ...shows(token(user, claims)) });
    const [ada, eve, bob] = [await as('ada', { info: { name: 'Ada' } }), await as('eve'), await as('bob')];
    const room = fresh('chat:');
    const seen = hear(ada, '$joined', '$left');
    await ask(ada, '$subscribe', room);
    await seen.count(1);
    const { heard } = await subscribe(eve, room);
    await ask(bob, '$subscribe', room);
    await bob.stop();
    const bothWays = [['$joined', 'bob', undefined], ['$left', 'bob', undefined]];
    const brief = (await seen.count(4)).map(([event, { user, info }]) => [event, user, info]);
    assert.deepEqual(brief, [['$joined', 'ada', { name: 'Ada' }], ['$joined', 'eve', undefined], ...bothWays]);
    const frames = (await heard.count(4)).slice(1).flatMap(([frame]) => Object.entries(frame).map(([what, { user, info }]) => [`$${what}`, user, info]));
    assert.deepEqual(frames, [['$joined', 'eve', undefined], ...bothWays]);
  },
};

for (const { name, client, way } of everybody) {
  describe(`${name}: a client`, { concurrency: 4 }, () => {
    const own = closed({ 'client-expiry-grace': '1s' });
    for (const [promise, play] of Object.entries(EVERYBODY)) test(promise, (t) => play(t, own.url, { client, way }));
  });
}

describe('a token in the address', () => {
  const own = closed({});

  test('is good for a WebSocket, which in browsers has no other place for it', async (t) => {
    const socket = new WebSocket(`${own.url.replace('http', 'ws')}/signalr?access_token=${token('ada')}`);
    t.after(() => socket.terminate());
    await within(once(socket, 'open'), 'the WebSocket');
    socket.send('{"protocol":"json","version":1}\u001e');
    const [text] = await next(socket, 'message');
    assert.equal(`${text}`.split('\u001e')[0], '{}');
  });

  test('is not looked at where there is a header', async () => {
    const answer = await fetch(`${own.url}/signalr/negotiate?negotiateVersion=1&access_token=${token('ada')}`, { method: 'POST' });
    assert.equal(answer.status, 401);
    assert.match(await answer.text(), /\w/);
  });
});

describe('a connection', () => {
  const own = closed({});
  const asUser = (user) => ({ authorization: `Bearer ${token(user)}` });

  test('belongs to the user who began it', async () => {
    const negotiation = await fetch(`${own.url}/signalr/negotiate?negotiateVersion=1`, { method: 'POST', headers: asUser('ada') });
    assert.equal(negotiation.status, 200);
    const { connectionToken } = await negotiation.json();
    const status = async (headers) => (await fetch(`${own.url}/signalr?id=${connectionToken}`, { headers })).status;
    assert.equal(await status(asUser('ada')), 200);
    assert.equal(await status({}), 401);
    assert.equal(await status(asUser('bob')), 403);
  });
});

/** An application that lets its users in by itself: it negotiates for them, and sends them to the server with a token. */
async function doorkeeper(t, answer) {
  const site = http.createServer((request, response) => {
    const ok = request.method === 'POST' && request.url.startsWith('/app/negotiate?');
    response.writeHead(ok ? 200 : 404, { 'content-type': 'application/json' }).end(JSON.stringify(ok ? answer() : {}));
  });
  t.after(() => site.close());
  site.listen(0, '127.0.0.1');
  await once(site, 'listening');
  return `http://127.0.0.1:${site.address().port}`;
}

describe('an application that negotiates for its users', () => {
  const own = closed({});

  for (const { name, client, way } of newest.filter((each) => !each.way.skipNegotiation)) {
    test(`sends them to the server with a token: ${name}`, async (t) => {
      const users = [];
      const answer = () => {
        users.push(`user-${users.length}`);
        return { url: `${own.url}/signalr?channels=chat:lobby`, accessToken: token(users.at(-1)) };
      };
      const site = await doorkeeper(t, answer);
      const connection = build(t, site, { client, way, hub: '/app' });
      const heard = hear(connection, 'message');
      for (const time of numbers(2)) {
        await connection.start();
        await attended(own.url, 'chat:lobby');
        await publish(own.url, { channel: 'chat:lobby', data: time });
        await heard.upTo(['message', time]);
        const { members } = await ask(connection, '$presence', 'chat:lobby');
        assert.deepEqual(members.map(({ user }) => user), [users.at(-1)]);
        await connection.stop();
      }
      assert.deepEqual(users, ['user-0', 'user-1']);
    });
  }
});

test('whoever says as much about itself as it may is seen by everybody, and disturbs nobody', async (t) => {
  const { url } = await Server.of(t, {}, CLOSED);
  const deep = JSON.parse('['.repeat(64) + ']'.repeat(64));
  const room = fresh('chat:');
  for (const { client, way } of newest) {
    const ada = await join(t, url, { client, way, ...shows(token('ada')) });
    const seen = hear(ada, '$joined');
    await ask(ada, '$subscribe', room);
    const bob = await join(t, url, { client, way, ...shows(token('bob', { info: deep })) });
    await ask(bob, '$subscribe', room);
    assert.deepEqual((await seen.count(2))[1][1].info, deep);
    await Promise.all([ada, bob].map((connection) => connection.stop()));
  }
});
