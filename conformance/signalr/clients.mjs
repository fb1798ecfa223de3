// Other people's clients as they come from npm, in each protocol, and the ways on which each can reach the server.
import assert from 'node:assert/strict';
import * as signalr1 from '@aspnet/signalr';
import { MessagePackHubProtocol as MessagePack1 } from '@aspnet/signalr-protocol-msgpack';
import * as signalr10 from '@microsoft/signalr';
import * as signalr6 from '@microsoft/signalr-6';
import { MessagePackHubProtocol as MessagePack10 } from '@microsoft/signalr-protocol-msgpack';
import { MessagePackHubProtocol as MessagePack6 } from '@microsoft/signalr-protocol-msgpack-6';
import { Heard, within } from '../common/hearing.mjs';

const { HttpTransportType, HubConnectionState, LogLevel, Subject } = signalr10;

export { HubConnectionState, Subject };

/** `isOld`: from before client results and stateful reconnect. */
export const CLIENTS = {
  'SignalR 10 in JSON': { library: signalr10, Protocol: signalr10.JsonHubProtocol },
  'SignalR 10 in MessagePack': { library: signalr10, Protocol: MessagePack10, isBinary: true },
  'SignalR 6 in JSON': { library: signalr6, Protocol: signalr6.JsonHubProtocol, isOld: true },
  'SignalR 6 in MessagePack': { library: signalr6, Protocol: MessagePack6, isBinary: true, isOld: true },
};

/** They know neither a connection token nor a connection id, do not come back by themselves, and send no streams. */
const FIRST = {
  'SignalR 1 in JSON': { library: signalr1, Protocol: signalr1.JsonHubProtocol, isOld: true, isFirst: true },
  'SignalR 1 in MessagePack': { library: signalr1, Protocol: MessagePack1, isBinary: true, isOld: true, isFirst: true },
};

export const NEWEST = CLIENTS['SignalR 10 in JSON'];
export const NEWEST_BINARY = CLIENTS['SignalR 10 in MessagePack'];

/** What a client is told about each way, and what it must be able to do there. */
export const WAYS = {
  WebSockets: { transport: HttpTransportType.WebSockets },
  'WebSockets without negotiation': { transport: HttpTransportType.WebSockets, skipNegotiation: true },
  'WebSockets with stateful reconnect': { transport: HttpTransportType.WebSockets, isStateful: true },
  ServerSentEvents: { transport: HttpTransportType.ServerSentEvents, isTextOnly: true },
  LongPolling: { transport: HttpTransportType.LongPolling },
};

export const DEFAULT_WAY = WAYS.WebSockets;

/** Each client on each of its ways. */
const onEveryWay = (clients) => Object.entries(clients).flatMap(([name, client]) => waysOf(client)
  .map(([wayName, way]) => ({ name: `${name} over ${wayName}`, client, way })));

/** Everything that can be had of clients that are in use. */
export const everybody = onEveryWay(CLIENTS);

/** The same of the first. */
export const first = onEveryWay(FIRST);

function waysOf(client) {
  return Object.entries(WAYS).filter(([, way]) => !(client.isBinary && way.isTextOnly) && !(client.isOld && way.isStateful));
}

/** The way of such a name with the newest client in each protocol. */
export const newest = everybody.filter(({ client }) => !client.isOld);

/** What such a client takes for its connection id where others know it by `id`. */
export function ownId({ client, way }, id) {
  if (client.isFirst) return undefined;
  return way.skipNegotiation ? null : id;
}

export const isWebSocket = (way) => way.transport === HttpTransportType.WebSockets;

/**
 * A connection that is not started and ends with the test. `reconnect` is `true` to come back at once, or the delays or policy of the
 * client; `channels` and `hub` go into the address; all else is for the client.
 */
export function build(t, url, { client = NEWEST, way = DEFAULT_WAY, hub = '/signalr', channels, reconnect, ...options } = {}) {
  const { isStateful, isTextOnly, ...transport } = way;
  const query = channels ? `?channels=${channels.map(encodeURIComponent).join(',')}` : '';
  const builder = new client.library.HubConnectionBuilder()
    .withUrl(`${url}${hub}${query}`, { ...transport, ...options })
    .withHubProtocol(new client.Protocol())
    .configureLogging(LogLevel.None);
  if (reconnect) builder.withAutomaticReconnect(reconnect === true ? COME_BACK : reconnect);
  if (isStateful) builder.withStatefulReconnect();
  const connection = builder.build();
  t.after(() => within(connection.stop(), 'the client to stop'));
  return connection;
}

/** Tries for as long as a test may take. */
const COME_BACK = { nextRetryDelayInMilliseconds: () => 50 };

/** A connection that is started. */
export async function join(t, url, options) {
  const connection = build(t, url, options);
  await within(connection.start(), 'the connection');
  return connection;
}

/** The error with which it does not start. */
export async function refused(connection) {
  const outcome = await within(connection.start().then(() => null, (error) => error), 'a refusal');
  assert.ok(outcome, 'it was let in');
  return outcome;
}

/** What becomes of the connection: `reconnecting` and `closed` with the error's text if there is one, `reconnected` with its id. */
export function turns(connection) {
  const heard = new Heard();
  const told = (name) => (why) => heard.note([name, ...(why === undefined ? [] : [why?.message ?? why])]);
  connection.onreconnecting(told('reconnecting'));
  connection.onreconnected(told('reconnected'));
  connection.onclose(told('closed'));
  return heard;
}

/** Invokes and waits for the result. */
export function ask(connection, method, ...args) {
  return within(connection.invoke(method, ...args), `the result of ${method}`);
}

/** Waits for the error of an invocation: its text. */
export async function fault(connection, method, ...args) {
  const outcome = connection.invoke(method, ...args).then((result) => ({ result }), (error) => ({ error }));
  const { result, error } = await within(outcome, `the error of ${method}`);
  assert.ok(error, `${method} was carried out: ${JSON.stringify(result)}`);
  return error.message;
}

/** That an invocation is refused with this error code, in the words that SignalR has for it. */
export async function assertRefused(connection, code, method, ...args) {
  assertFault(await fault(connection, method, ...args), code, method);
}

export function assertFault(text, code, method) {
  assert.match(text, /^[^\n]+$/);
  const { words, said, told } = text.match(/^(?<words>.*?): (?<said>.+) \(code (?<told>\d+)\)$/)?.groups ?? {};
  assert.equal(told, `${code}`, text);
  assert.notEqual(said, '');
  const unauthorized = [101, 103].includes(code);
  assert.equal(words, unauthorized ? `Failed to invoke '${method}' because user is unauthorized` : `An unexpected error occurred invoking '${method}' on the server. HubException`);
}

/** Everything that a stream brings, as `[item]`, and its end as `'complete'` or `{ error }`. */
export function follow(connection, method, ...args) {
  const heard = new Heard();
  const subscription = connection.stream(method, ...args).subscribe({
    next: (item) => heard.note([item]),
    complete: () => heard.note('complete'),
    error: ({ message }) => heard.note({ error: message }),
  });
  heard.dispose = () => subscription.dispose();
  return heard;
}

/** Subscribes by a stream: what it brings, once the first item has come, and that item. */
export async function subscribe(connection, channel, options = {}) {
  const heard = follow(connection, '$subscribe', channel, options);
  const [[first]] = await heard.count(1);
  assert.deepEqual(Object.keys(first ?? {}), ['subscribed'], JSON.stringify(heard.all[0]));
  return { heard, ...first };
}

/** The publications that a stream of `$subscribe` brought, each as its event and arguments. */
export const publications = (all) => all.flatMap((item) => item[0]?.publication ?? []).map(({ event, data, args }) => [event, ...(args ?? [data])]);
