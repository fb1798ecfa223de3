// Other people's clients, each in a page of its own: the bundles from npm, unmodified.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { eventually } from './window.mjs';

const bundle = (path) => readFileSync(new URL(`./node_modules/${path}`, import.meta.url), 'utf8');

/** Bytes, as they go into the page and come out of it; there they are what `as` says. */
export const bytes = (values, as = 'ArrayBuffer') => ({ bytes: [...values], as });

/** Runs in the page: bytes on their way into it and out of it. */
function parcels() {
  const walk = (value, leaf) => {
    const own = leaf(value);
    if (own !== undefined) return own;
    if (Array.isArray(value)) return value.map((each) => walk(each, leaf));
    if (value?.constructor !== Object) return value;
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, walk(each, leaf)]));
  };
  const isBytes = (value) => value instanceof ArrayBuffer || ArrayBuffer.isView(value);
  const made = { ArrayBuffer: ({ buffer }) => buffer, Uint8Array: (view) => view, Blob: (view) => new Blob([view]) };
  window.parcels = {
    pack: (value) => walk(value, (each) => (isBytes(each) ? { bytes: [...new Uint8Array(each)], as: each.constructor.name } : undefined)),
    unpack: (value) => walk(value, (each) => each?.bytes && made[each.as](Uint8Array.from(each.bytes))),
  };
}

/** Runs in the page: `enter` connects a Socket.IO client and notes all it is told, `call` waits for the acknowledgement. */
function socketio() {
  const { pack, unpack } = window.parcels;
  const note = { events: [], states: [] };
  let socket;
  window.player = {
    note,
    enter(url, options) {
      socket = io(url, { reconnectionDelay: 100, reconnectionDelayMax: 300, forceNew: true, ...options });
      socket.onAny((...event) => note.events.push(pack(event.filter((each) => typeof each !== 'function'))));
      socket.on('ready?', (...args) => args.pop()('yes', new Uint8Array([0, 255]), args.length));
      socket.on('connect', () => note.states.push('connected'));
      socket.on('disconnect', (reason) => note.states.push(`disconnected: ${reason}`));
      socket.on('connect_error', ({ message, data }) => note.states.push(`refused: ${message}${data ? ` (${data.code})` : ''}`));
    },
    transport: () => socket.io.engine?.transport.name,
    // Whether it would come back by itself.
    active: () => socket.active,
    call: async (...event) => pack(await socket.timeout(10_000).emitWithAck(...unpack(event))),
  };
}

/** A client of Socket.IO. Whoever plays another brings its bundles and what runs in the page. */
export class Player {
  static bundles = [bundle('socket.io-client/dist/socket.io.min.js')];
  static play = socketio;
  #taken = 0;

  /** A page at `address`, with the client in it. */
  static async at(browser, address) {
    const own = new this();
    own.context = await browser.chromium.createBrowserContext();
    own.page = await own.context.newPage();
    await own.page.goto(address);
    for (const content of this.bundles) await own.page.addScriptTag({ content });
    await own.page.evaluate(parcels);
    await own.page.evaluate(this.play);
    return own;
  }

  /** A client of `url` in a page of the same origin, connected. */
  static async enter(browser, url, options) {
    const own = await this.at(browser, `${url}/healthz`);
    await own.connect(url, options);
    await own.is(({ states }) => states.at(-1) === 'connected', 'connected');
    return own;
  }

  connect(url, options) {
    return this.page.evaluate((...all) => window.player.enter(...all), url, options);
  }

  call(...event) {
    return this.page.evaluate((...all) => window.player.call(...all), ...event);
  }

  transport() {
    return this.page.evaluate(() => window.player.transport());
  }

  active() {
    return this.page.evaluate(() => window.player.active());
  }

  note() {
    return this.page.evaluate(() => window.player.note);
  }

  is(holds, what) {
    return eventually(async () => {
      const note = await this.note();
      assert.ok(holds(note), `${what}: ${JSON.stringify(note).slice(0, 2000)}`);
    });
  }

  /** The next events are these. */
  async gets(...events) {
    const from = this.#taken;
    this.#taken += events.length;
    await this.is((note) => note.events.length >= this.#taken, `${events.length} more events`);
    const note = await this.note();
    assert.deepEqual(note.events.slice(from, this.#taken), events);
  }

  /** Nothing came that was not named. */
  async hasNothingMore() {
    assert.deepEqual((await this.note()).events.slice(this.#taken), []);
  }

  close() {
    return this.context.close();
  }
}

/** Runs in the page: a SignalR client that notes all it is told; `follow` notes what a stream brings, `upload` sends one. */
function signalr() {
  const { HubConnectionBuilder, JsonHubProtocol, LogLevel, Subject, protocols } = window.signalR;
  const { pack, unpack } = window.parcels;
  const Protocols = { JSON: JsonHubProtocol, MessagePack: protocols.msgpack.MessagePackHubProtocol };
  const note = { events: [], states: [], streams: {} };
  let connection;
  window.player = {
    note,
    async enter(url, { protocol, token, isStateful, events = [], ...options }) {
      const builder = new HubConnectionBuilder()
        .withUrl(url, { ...(token && { accessTokenFactory: () => token }), ...options })
        .withHubProtocol(new Protocols[protocol]())
        .withAutomaticReconnect({ nextRetryDelayInMilliseconds: () => 100 })
        .configureLogging(LogLevel.None);
      if (isStateful) builder.withStatefulReconnect();
      connection = builder.build();
      for (const event of events) connection.on(event, (...args) => { note.events.push(pack([event, ...args])); });
      connection.on('ready?', (...args) => ['yes', args.length]);
      connection.onclose((why) => note.states.push(`closed${why ? `: ${why.message}` : ''}`));
      connection.onreconnecting(() => note.states.push('reconnecting'));
      connection.onreconnected(() => note.states.push('connected'));
      await connection.start().then(() => note.states.push('connected'), ({ message }) => note.states.push(`refused: ${message}`));
    },
    transport: () => connection.connection.transport?.constructor.name,
    id: () => connection.connectionId,
    call: async (...event) => pack(await connection.invoke(...unpack(event)).catch(({ message }) => ({ error: message }))),
    follow(name, ...event) {
      const items = note.streams[name] = [];
      connection.stream(...unpack(event)).subscribe({
        next: (item) => items.push(pack(item)),
        complete: () => items.push('complete'),
        error: ({ message }) => items.push(`error: ${message}`),
      });
    },
    async upload(items, ...event) {
      const subject = new Subject();
      const result = connection.invoke(...event, subject);
      for (const item of unpack(items)) subject.next(item);
      subject.complete();
      return result;
    },
  };
}

/** A client of SignalR. */
export class SignalRPlayer extends Player {
  static bundles = [bundle('@microsoft/signalr/dist/browser/signalr.min.js'), bundle('@microsoft/signalr-protocol-msgpack/dist/browser/signalr-protocol-msgpack.min.js')];
  static play = signalr;

  id() {
    return this.page.evaluate(() => window.player.id());
  }

  follow(name, ...event) {
    return this.page.evaluate((...all) => window.player.follow(...all), name, ...event);
  }

  upload(items, ...event) {
    return this.page.evaluate((...all) => window.player.upload(...all), items, ...event);
  }
}
