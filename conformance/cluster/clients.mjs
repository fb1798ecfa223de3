// One client of each protocol that follows a channel, comes back by itself, and says what it got: whatever an application would see.
//
// Each is given `note`, for entries in order: `['subscribed', epoch, offset, recovered]` when it has been (re)subscribed, `['recovered']`
// when it came back to where it was without subscribing, `['got', offset, id]` with the offset or null where the protocol does not
// say it, and `['ended', why]` if it stays away.
import { HubConnectionBuilder, HttpTransportType, LogLevel } from '@microsoft/signalr';
import { EventSource } from 'eventsource';
import { io } from 'socket.io-client';
import WebSocket from 'ws';
import { Client } from '../../crates/server/assets/duplex.mjs';

/** Each resolves when it is subscribed for the first time. `way` is one of `WAYS[protocol]`. */
export const PROTOCOLS = { native, sse, socketio, signalr };

export const WAYS = {
  native: ['websocket', 'sse', 'poll'],
  sse: ['sse'],
  socketio: ['websocket', 'polling', 'upgrade'],
  signalr: ['websocket', 'negotiated', 'sse', 'poll'],
};

function native(url, channel, note, way) {
  const client = new Client(url, { WebSocket, transports: [way] });
  client.on('disconnected', ({ reconnect, code }) => { if (!reconnect) note(['ended', code]); });
  const subscription = client.subscribe(channel);
  subscription.on('publication', ({ offset, data }) => note(['got', offset, data.id]));
  subscription.on('unsubscribed', (error) => note(['ended', `${error}`]));
  return new Promise((resolve) => {
    subscription.on('subscribed', ({ epoch, offset, recovered }) => {
      note(['subscribed', epoch, offset, recovered ?? null]);
      resolve();
    });
  });
}

function sse(url, channel, note) {
  const source = new EventSource(`${url}/sse?channels=${channel}`);
  source.addEventListener('message', ({ data }) => {
    const { offset, data: { id } } = JSON.parse(data);
    note(['got', offset, id]);
  });
  source.addEventListener('error', ({ code }) => {
    if (source.readyState === EventSource.CLOSED) note(['ended', code ?? 'closed']);
  });
  return new Promise((resolve) => {
    source.addEventListener('$subscribed', ({ data }) => {
      const { epoch, offset, recovered } = JSON.parse(data);
      note(['subscribed', epoch, offset, recovered ?? null]);
      resolve();
    });
  });
}

const SOCKETIO_TRANSPORTS = { websocket: ['websocket'], polling: ['polling'], upgrade: ['polling', 'websocket'] };

/** It keeps the position by counting: each message is one further. */
function socketio(url, channel, note, way) {
  const socket = io(url, { transports: SOCKETIO_TRANSPORTS[way], forceNew: true, reconnectionDelay: 100, reconnectionDelayMax: 1_000 });
  let position;
  socket.on('message', ({ id }) => {
    note(['got', null, id]);
    if (position) position.offset += 1;
  });
  socket.on('disconnect', (why) => { if (!socket.active) note(['ended', why]); });
  socket.on('connect_error', ({ message }) => { if (!socket.active) note(['ended', message]); });
  return new Promise((resolve) => {
    const subscribe = () => socket.emit('$subscribe', channel, position ? { since: position } : {}, (answer) => {
      // What may soon be over.
      if (answer.error) return setTimeout(() => socket.connected && subscribe(), 200);
      const { epoch, offset, recovered } = answer;
      note(['subscribed', epoch, offset, recovered ?? null]);
      if (!recovered) position = { epoch, offset };
      resolve();
    });
    socket.on('connect', () => (socket.recovered ? note(['recovered']) : subscribe()));
  });
}

const SIGNALR = {
  websocket: { transport: HttpTransportType.WebSockets, skipNegotiation: true },
  negotiated: { transport: HttpTransportType.WebSockets },
  sse: { transport: HttpTransportType.ServerSentEvents },
  poll: { transport: HttpTransportType.LongPolling },
};

async function signalr(url, channel, note, way) {
  const connection = new HubConnectionBuilder()
    .withUrl(`${url}/signalr`, SIGNALR[way])
    .withAutomaticReconnect({ nextRetryDelayInMilliseconds: ({ previousRetryCount }) => Math.min(100 * 2 ** previousRetryCount, 1_000) })
    .configureLogging(LogLevel.None)
    .build();
  let since;
  connection.onclose((error) => note(['ended', `${error}`]));
  await start(connection);
  return new Promise((resolve) => {
    const follow = () => connection.stream('$subscribe', channel, { since }).subscribe({
      next: ({ subscribed, publication }) => {
        if (subscribed) {
          const { epoch, offset, recovered } = subscribed;
          note(['subscribed', epoch, offset, recovered ?? null]);
          if (!recovered) since = { epoch, offset };
          resolve();
        }
        if (publication) {
          const { epoch, offset, data } = publication;
          note(['got', offset, data.id]);
          since = { epoch, offset };
        }
      },
      complete: () => {},
      // Lost with its connection, or refused for what may soon be over.
      error: () => setTimeout(() => connection.state === 'Connected' && follow(), 200),
    });
    let known = connection.connectionId;
    connection.onreconnected((id) => { known = id; follow(); });
    follow();
  });
}

/** The client tries its first start once. */
async function start(connection) {
  for (;;) {
    try {
      return await connection.start();
    } catch {
      await new Promise((resolve) => { setTimeout(resolve, 200); });
    }
  }
}
