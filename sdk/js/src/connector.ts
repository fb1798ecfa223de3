import { Backoff, isFinal } from './backoff.js';
import { Direct } from './direct.js';
import type { Line, LineEvents, Way } from './line.js';
import { remember, remembered } from './memory.js';
import type { End, Frame, Message, Transport } from './protocol.js';
import { Session } from './session.js';
import type { Times } from './times.js';
import { BROKEN, type WebSocketLike } from './wire.js';

const TOKEN_EXPIRED = 3005;
const UNAUTHORIZED = 401;
const FORBIDDEN = 403;
const CLOSED: End = { code: 1000, reason: 'the client was closed' };

/**
 * `idle` until the first command, `waiting` until it tries again at `retryAt`, `closed` by `close` or by the server for
 * good; `connect` leads out of each.
 */
export type State = 'idle' | 'connecting' | 'connected' | 'waiting' | 'closed';

export type TokenReason = 'connect' | 'refresh' | 'expired';
export type Token = string | null | undefined;

export interface Place {
  base: string;
  transports: Transport[];
  WebSocket: WebSocketLike | undefined;
  times: Times;
  /** Whether `token` may give another one than before. */
  renewable: boolean;
  token(reason: TokenReason): Token | Promise<Token>;
}

/** What a connector tells. */
export interface ConnectorEvents {
  /** The message that begins a conversation. */
  introduce(token: Token): Message;
  frame(frame: Frame): void;
  /** There is room for messages again. */
  drained(): void;
  quiet(): void;
  transport(transport: Transport): void;
  /** The line is gone, and nothing that was sent on it is answered any more. */
  lost(end: End): void;
  state(state: State): void;
  disconnected(end: End & { reconnect: boolean }): void;
  error(error: unknown): void;
}

/** Has a line to the server whenever it can: chooses how to get there, and when to try again. */
export class Connector {
  state: State = 'idle';
  retryAt: number | undefined;
  transport: Transport | undefined;
  line: Line | undefined;
  #place: Place;
  #events: ConnectorEvents;
  #backoff: Backoff;
  // What belongs to an earlier attempt is of no interest any more.
  #turn = 0;
  #attempt = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #greeted = false;
  #returning = false;
  #refused = false;
  #reason: TokenReason = 'connect';
  #listening: AbortController | undefined;

  constructor(place: Place, events: ConnectorEvents) {
    this.#place = place;
    this.#events = events;
    this.#backoff = new Backoff(place.times);
  }

  connect(): void {
    if (this.state === 'connecting' || this.state === 'connected') return;
    this.#listen();
    void this.#open();
  }

  close(): void {
    if (this.state === 'closed') return;
    const { line } = this;
    this.#leave(CLOSED);
    line?.close();
    this.#finish(CLOSED);
  }

  /** The server has let the client in. */
  greet(): void {
    this.#greeted = this.#returning = true;
    this.#refused = false;
    this.#reason = 'connect';
    this.#attempt = 0;
    this.#backoff.connected(performance.now());
    this.#enter('connected');
  }

  /** Gives the line up that there is, as if it were lost. */
  abandon(end: End): void {
    this.line?.close();
    this.#lost(end);
  }

  async #open(): Promise<void> {
    clearTimeout(this.#retry);
    const turn = ++this.#turn;
    this.#attempt++;
    this.#enter('connecting');
    try {
      const token = await this.#place.token(this.#reason);
      if (turn === this.#turn) this.#dial(this.#order(), this.#events.introduce(token));
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#events.error(error);
      this.#lost(BROKEN);
    }
  }

  // What worked last is tried first, unless it just did not.
  #order(): Transport[] {
    const { base, transports } = this.#place;
    const known = remembered(base);
    const first = this.#attempt === 1 && transports.find((transport) => transport === known);
    return first ? [...new Set([first, ...transports])] : transports;
  }

  #dial(order: Transport[], first: Message): void {
    const [preferred, ...others] = order;
    const way = this.#way();
    const events = this.#lineEvents();
    if (preferred !== 'websocket') {
      this.line = new Session(way, order, first, events);
      return;
    }
    // A WebSocket that opened here before will do so again when the server is back.
    const goOn = others.length && (this.#attempt > 1 || remembered(way.base) !== 'websocket');
    this.line = new Direct(way, first, events, goOn ? () => this.#dial(others, first) : events.lost);
  }

  #way(): Way {
    const { times } = this.#place;
    const open_ms_max = Math.min(times.openMax, times.open * 2 ** (this.#attempt - 1));
    return { ...this.#place, query: this.#returning ? '?returning=true' : '', open_ms_max };
  }

  #lineEvents(): LineEvents {
    return {
      ...this.#events,
      carried: (transport) => this.#carried(transport),
      lost: (end) => this.#lost(end),
    };
  }

  #carried(transport: Transport | undefined): void {
    if (!transport) return this.#enter('connecting');
    remember(this.#place.base, transport, this.#place.times.remember);
    if (transport !== this.transport) this.#events.transport((this.transport = transport));
    if (!this.#greeted) return;
    this.#enter('connected');
    this.#events.drained();
  }

  #lost(end: End): void {
    this.#leave(end);
    if (this.#isFinal(end)) return this.#finish(end);
    const after_ms = this.#backoff.delay(end, performance.now());
    this.#retry = setTimeout(() => this.#open(), after_ms);
    this.retryAt = Date.now() + after_ms;
    this.#enter('waiting');
    this.#events.disconnected({ ...end, reconnect: true, after_ms });
  }

  #isFinal(end: End): boolean {
    const refused = end.code === UNAUTHORIZED || end.code === FORBIDDEN;
    if (!refused && end.code !== TOKEN_EXPIRED) return isFinal(end);
    // Another token may help; who is refused with that too need not come a third time.
    const final = !this.#place.renewable || (refused && this.#refused);
    this.#refused ||= refused;
    this.#reason = 'expired';
    return final;
  }

  #leave(end: End): void {
    this.#turn++;
    this.#greeted = false;
    this.line = undefined;
    clearTimeout(this.#retry);
    this.#events.lost(end);
  }

  #finish(end: End): void {
    this.#listening?.abort();
    this.#listening = undefined;
    this.#attempt = this.#backoff.losses = 0;
    this.#refused = false;
    this.#enter('closed');
    this.#events.disconnected({ ...end, reconnect: false });
  }

  #enter(state: State): void {
    if (state !== 'waiting') this.retryAt = undefined;
    if (state === this.state) return;
    this.state = state;
    this.#events.state(state);
  }

  #listen(): void {
    if (typeof addEventListener !== 'function' || this.#listening) return;
    const { signal } = (this.#listening = new AbortController());
    const wake = () => this.#wake();
    for (const name of ['online', 'pageshow', 'visibilitychange']) addEventListener(name, wake, { signal });
    addEventListener('pagehide', () => this.line?.leave(), { signal });
  }

  #wake(): void {
    if (globalThis.document?.hidden) return;
    if (this.state === 'waiting') void this.#open();
    else this.line?.check();
  }
}
