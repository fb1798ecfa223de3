// Who a client is, and what follows: on a server that is open to nobody without a token.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { CLIENTS, WAYS, ask, connected, flagsFor, join, open, refused, tell } from './clients.mjs';
import { assertRefusal, hear, next } from '../common/hearing.mjs';
import { fresh } from '../common/payloads.mjs';
import { CLOSED, Server, api, attended, publish, token } from '../common/server.mjs';

const INVALID = 3500;
const BAD_REQUEST = 3501;
const EXPIRED = 3005;
const REVOKED = 3507;

/** Where each client shows its token: version 2 has nothing but the address. */
const shows = (client, shown) => (client.isV2 ? { query: { token: shown } } : { auth: { token: shown } });

const EVERYBODY = {
  'with a good token is let in, and hears the channels that the token names': async ({ t, url, spec }) => {
    const rooms = [fresh('chat:'), fresh('chat:')];
    const socket = open(t, url, spec(token('ada', { channels: rooms })));
    const heard = hear(socket, 'message');
    await connected(socket);
    for (const channel of rooms) await attended(url, channel);
    for (const channel of rooms) await publish(url, { channel, data: channel });
    assert.deepEqual(await heard.count(2), rooms.map((room) => ['message', room]));
  },

  'with a forged token is told so, and stays away': async ({ t, url, client, spec }) => {
    const socket = open(t, url, spec(token('ada', {}, 'another secret that is long enough, too')));
    assertWhy(await refused(socket), client, INVALID);
    assert.equal(socket.connected, false);
  },

  'whose token is revoked is sent away from every namespace and does not come back': async ({ t, url, client, spec }) => {
    const user = fresh('user-');
    const shown = token(user);
    const main = await join(t, url, spec(shown));
    const chat = main.io.socket('/chat', shows(client, shown));
    await connected(chat);
    const other = await join(t, url, spec(token('ada')));
    const gone = [next(main, 'disconnect'), next(chat, 'disconnect')];
    assert.equal((await api(url, 'revoke', { user })).status, 200);
    assert.deepEqual((await Promise.all(gone)).map(([why]) => why), ['io server disconnect', 'io server disconnect']);
    // So the client says that it gives up.
    assert.equal(main.io.skipReconnect, true);
    assertWhy(await refused(open(t, url, spec(shown))), client, REVOKED);
    await tell(other, '$subscribe', fresh());
  },
};

const closed = (flags) => {
  const own = {};
  before(async () => {
    own.server = await Server.launch(flags, CLOSED);
    own.url = own.server.url;
  });
  after(() => own.server?.stop());
  return own;
};

for (const [name, client] of Object.entries(CLIENTS)) {
  describe(name, () => {
    const own = closed(flagsFor(client));
    for (const way of Object.keys(WAYS)) {
      for (const [promise, play] of Object.entries(EVERYBODY)) {
        test(`over ${way} ${promise}`, (t) => play({ t, url: own.url, client, spec: (shown) => ({ client, way, ...shows(client, shown) }) }));
      }
    }
  });
}

/** Version 2 gets what newer ones find in `data`, or the sentence. */
function assertWhy(why, { isV2 }, code) {
  if (isV2) return assert.ok(why?.code === code || (typeof why === 'string' && why !== ''), JSON.stringify(why));
  assert.equal(why.data?.code, code, `${why.message} ${JSON.stringify(why.data)}`);
  assert.notEqual(why.message, '');
  assert.deepEqual(Object.keys(why.data), ['code']);
}

const REFUSED = {
  'no token': [{}, INVALID],
  'something that is no token': [{ auth: { token: 'no token at all' } }, INVALID],
  'an expired token': [{ auth: { token: token('ada', { exp: 1_000_000_000 }) } }, EXPIRED],
  'a token that is not text': [{ auth: { token: { sub: 'ada' } } }, BAD_REQUEST],
};

describe('on a server that is open to nobody', () => {
  const own = closed({});

  for (const [what, [options, code]] of Object.entries(REFUSED)) {
    test(`with ${what} a client is told why it is not let in`, async (t) => {
      assertWhy(await refused(open(t, own.url, options)), {}, code);
    });
  }

  test('a token may stand in the address, and may be fetched anew for each connection', async (t) => {
    await join(t, own.url, { query: { token: token('ada') } });
    await join(t, own.url, { auth: (show) => show({ token: token('ada') }) });
  });

  test('each namespace may be another user, and one that is refused does not disturb the others', async (t) => {
    const main = await join(t, own.url, { auth: { token: token('ada') } });
    const chat = main.io.socket('/chat', { auth: { token: token('bob') } });
    await connected(chat);
    const { id } = main.io.engine;
    const stranger = main.io.socket('/private', { auth: { token: 'bad' } });
    assertWhy(await refused(stranger), {}, INVALID);
    stranger.auth = { token: token('eve') };
    stranger.connect();
    await connected(stranger);
    assert.equal(main.io.engine.id, id);
    const room = fresh();
    const joined = next(chat, '$joined');
    await tell(chat, '$subscribe', room);
    assert.equal((await joined)[0].user, 'bob');
    assert.deepEqual((await tell(chat, '$presence', room)).members.map(({ user }) => user), ['bob']);
    const heard = hear(chat, 'message');
    await tell(main, '$publish', `chat:${room}`, 'message', 'still here');
    assert.deepEqual(await heard.count(1), [['message', 'still here']]);
  });

  test('a namespace that is not configured is refused, and the connection stays', async (t) => {
    const main = await join(t, own.url, { auth: { token: token('ada') } });
    const { id } = main.io.engine;
    const nowhere = main.io.socket('/nowhere', { auth: { token: token('ada') } });
    assert.equal((await refused(nowhere)).message, 'Invalid namespace');
    await tell(main, '$subscribe', fresh());
    assert.equal(main.io.engine.id, id);
  });
});

describe('what a token allows', () => {
  const own = closed({});

  test('who joins and who leaves is told to those who are there', async (t) => {
    const ada = await join(t, own.url, { namespace: '/chat', auth: { token: token('ada', { info: { name: 'Ada' } }) } });
    const bob = await join(t, own.url, { namespace: '/chat', auth: { token: token('bob') } });
    const room = fresh();
    const seen = hear(ada, '$joined', '$left');
    await tell(ada, '$subscribe', room);
    await tell(bob, '$subscribe', room);
    bob.disconnect();
    const brief = (await seen.count(3)).map(([event, { user, info }, ...more]) => [event, user, info, more]);
    assert.deepEqual(brief, [['$joined', 'ada', { name: 'Ada' }, []], ['$joined', 'bob', undefined, []], ['$left', 'bob', undefined, []]]);
  });

  test('what the token does not allow is refused, and a subscription token opens one channel', async (t) => {
    const socket = await join(t, own.url, { auth: { token: token('ada', { allow: { subscribe: ['private:a*'] } }) } });
    await tell(socket, '$subscribe', 'private:allowed');
    assertRefusal(await ask(socket, '$subscribe', 'private:secret'), 103);
    assertRefusal(await ask(socket, '$publish', 'private:allowed', 'message', 1), 103);
    assertRefusal(await ask(socket, '$subscribe', 'nowhere:room'), 102);
    await tell(socket, '$subscribe', 'private:secret', { token: token('ada', { channel: 'private:secret' }) });
  });

  test('a newer token is taken, and an expired one is not', async (t) => {
    const socket = await join(t, own.url, { auth: { token: token('ada') } });
    const { expires_in_ms, ...more } = await tell(socket, '$refresh', token('ada', { exp: Math.floor(Date.now() / 1000) + 1_000 }));
    assert.deepEqual(more, {});
    assert.ok(expires_in_ms > 900_000 && expires_in_ms <= 1_010_000, `${expires_in_ms}`);
    assertRefusal(await ask(socket, '$refresh', token('ada', { exp: 1_000_000_000 })), 109);
    await tell(socket, '$subscribe', fresh());
  });
});
