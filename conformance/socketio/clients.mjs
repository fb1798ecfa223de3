// Other people's clients as they come from npm, and the ways on which each can reach the server.
import assert from 'node:assert/strict';
import { io as io4 } from 'socket.io-client';
import io2 from 'socket.io-client-2';
import { io as io3 } from 'socket.io-client-3';
import msgpack from 'socket.io-msgpack-parser';
import { within } from '../common/hearing.mjs';

export const CLIENTS = {
  'socket.io-client 4': { io: io4 },
  'socket.io-client 3': { io: io3 },
  'socket.io-client 2': { io: io2, isV2: true },
  'socket.io-client 4 with MessagePack': { io: io4, options: { parser: msgpack } },
};

/** What a server must be told so that this client may come. */
export const flagsFor = ({ isV2 }) => (isV2 ? { 'socketio-version-2': true } : {});

/** The transports that a client may use on each way. */
export const WAYS = {
  polling: ['polling'],
  websocket: ['websocket'],
  upgrade: ['polling', 'websocket'],
};

const NEWEST = CLIENTS['socket.io-client 4'];

/** The transport on which a way ends. */
export const arrival = (way) => WAYS[way].at(-1);

/** A socket that is on its way and ends with the test. Quick to come back, and sharing no connection unless it is told to. */
export function open(t, url, { client = NEWEST, way = 'websocket', namespace = '', ...options } = {}) {
  const usual = { transports: WAYS[way], forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 200 };
  const socket = client.io(url + namespace, { ...usual, ...client.options, ...options });
  t.after(() => leave(socket));
  return socket;
}

/** `_close` is what later versions call it; both end the connection under all its namespaces, and coming back. */
function leave({ io }) {
  (io._close ?? io.close).call(io);
}

/** A socket that is connected and, where its way leads there, upgraded. */
export async function join(t, url, options = {}) {
  const socket = open(t, url, options);
  const { way = 'websocket' } = options;
  const upgrade = way === 'upgrade' ? upgraded(socket) : null;
  await connected(socket);
  await upgrade;
  assert.equal(transport(socket), arrival(way));
  return socket;
}

export const transport = (socket) => socket.io.engine.transport.name;

/** That it began with polling and went over to a WebSocket. */
export async function upgraded(socket) {
  const { engine } = socket.io;
  assert.equal(engine.transport.name, 'polling');
  await within(new Promise((resolve, reject) => {
    engine.once('upgrade', resolve);
    engine.once('upgradeError', reject);
  }), 'the upgrade');
}

/** That it is connected. */
export function connected(socket) {
  return within(new Promise((resolve, reject) => {
    socket.once('connect', resolve);
    // Version 2 calls the refusal of a namespace `error`.
    for (const failure of ['connect_error', 'error']) socket.once(failure, (why) => reject(why instanceof Error ? why : new Error(why)));
  }), 'the connection');
}

/** That it is refused: with what. */
export function refused(socket) {
  return within(new Promise((resolve, reject) => {
    socket.once('connect', () => reject(new Error('it was let in')));
    for (const failure of ['connect_error', 'error']) socket.once(failure, resolve);
  }), 'a refusal');
}

/** Emits an event and waits for its ack, which has one argument and comes once. */
export function ask(socket, event, ...args) {
  return within(new Promise((resolve, reject) => {
    socket.emit(event, ...args, (...answer) => {
      if (answer.length === 1) resolve(answer[0]);
      else reject(new Error(`the ack of ${event} has ${answer.length} arguments: ${JSON.stringify(answer)}`));
    });
  }), `the ack of ${event}`);
}

/** The same for what must succeed. */
export async function tell(socket, event, ...args) {
  const answer = await ask(socket, event, ...args);
  assert.equal(answer.error, undefined, `${event} ${JSON.stringify(args)}: ${JSON.stringify(answer)}`);
  return answer;
}
