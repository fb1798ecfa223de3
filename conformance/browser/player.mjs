// A Socket.IO client in a page of its own: the bundle from npm, unmodified.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { eventually } from './window.mjs';

export const BUNDLE = readFileSync(new URL('./node_modules/socket.io-client/dist/socket.io.min.js', import.meta.url), 'utf8');

/** Bytes, as they go into the page and come out of it; there they are what `as` says. */
export const bytes = (values, as = 'ArrayBuffer') => ({ bytes: [...values], as });

/** Runs in the page: `enter` connects and notes all it is told, `call` waits for the acknowledgement. */
export function play() {
  const walk = (value, leaf) => {
    const own = leaf(value);
    if (own !== undefined) return own;
    if (Array.isArray(value)) return value.map((each) => walk(each, leaf));
    if (value?.constructor !== Object) return value;
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, walk(each, leaf)]));
  };
  const pack = (value) => walk(value, (each) => (each instanceof ArrayBuffer ? { bytes: [...new Uint8Array(each)], as: 'ArrayBuffer' } : undefined));
  const made = { ArrayBuffer: ({ buffer }) => buffer, Uint8Array: (view) => view, Blob: (view) => new Blob([view]) };
  const unpack = (value) => walk(value, (each) => each?.bytes && made[each.as](Uint8Array.from(each.bytes)));
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

export class Player {
  #taken = 0;

  /** A page at `address`, with the client in it. */
  static async at(browser, address) {
    const own = new Player();
    own.context = await browser.chromium.createBrowserContext();
    own.page = await own.context.newPage();
    await own.page.goto(address);
    await own.page.addScriptTag({ content: BUNDLE });
    await own.page.evaluate(play);
    return own;
  }

  /** A client of `url` in a page of the same origin, connected. */
  static async enter(browser, url, options) {
    const own = await Player.at(browser, `${url}/healthz`);
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
