import { jitter } from './backoff.js';
import { Connector, type State, type Token, type TokenReason } from './connector.js';
import { Conversation } from './conversation.js';
import { Emitter } from './emitter.js';
import { DuplexError, NOT_AVAILABLE, TIMEOUT } from './error.js';
import type {
  Connected,
  End,
  Frame,
  History,
  Message,
  Position,
  PresenceList,
  PresenceStats,
  Published,
  Subscribed,
  Transport,
} from './protocol.js';
import { type HistoryOptions, type Host, type PublishOptions, type SubscribeOptions, Subscription } from './subscription.js';
import { TIMES, type Times } from './times.js';
import type { WebSocketLike } from './wire.js';

const TRANSPORTS: Transport[] = ['websocket', 'sse', 'stream', 'poll'];
/** So many commands fill a message. */
const COMMANDS_MAX = 128;
const TIMEOUT_MS = 10_000;
/** Longer timers fire at once. */
const TIMER_MS_MAX = 2 ** 31 - 1;
/** How soon after a failure to get a new token it is tried again. */
const RENEW_MS = 5_000;

export interface TokenRequest {
  /** `refresh` while connected, before the token expires; `expired` after the server refused the last one. */
  reason: TokenReason;
}

/** Times are milliseconds. */
export interface ClientOptions {
  /** Says who the client is. A function is asked again whenever a new one is needed. */
  token?: string | ((request: TokenRequest) => string | null | Promise<string | null>);
  /** What may be used, the best first. */
  transports?: Transport[];
  /** Where the platform has none. Without one the other transports are used. */
  WebSocket?: WebSocketLike;
  /** How long a command may wait for a connection; 10,000 if not given. */
  timeout?: number;
  times?: Partial<Times>;
}

export interface ClientEvents {
  state: State;
  connected: Connected & { transport: Transport };
  /** The connection is lost, or there was none. `after_ms` is how long the client waits if it comes back. */
  disconnected: End & { reconnect: boolean };
  transport: Transport;
  /** The token subscribes the client to a channel nobody asked for. */
  subscription: Subscription;
  error: unknown;
}

/** A connection to a Duplex server that comes back by itself, and what is said on it. */
export class Client extends Emitter<ClientEvents> {
  /** The server's public name for this client, while connected. */
  id: string | undefined;
  /** The user its token names. */
  user: string | undefined;
  #token: ClientOptions['token'];
  #timeout: number;
  #times: Times;
  #connector: Connector;
  #conversation = new Conversation();
  #subscriptions = new Map<string, Subscription>();
  #message_bytes_max = 0;
  #renewal: ReturnType<typeof setTimeout> | undefined;
  #host: Host = {
    subscribe: (body, resolve, reject) => this.#ask('subscribe', 'subscribed', body, resolve, reject),
    unsubscribe: (channel) => this.#unsubscribe(channel),
    forget: (channel) => this.#subscriptions.delete(channel),
    delay: (failures) => jitter(this.#times, failures),
    publish: (channel, data, options) => this.publish(channel, data, options),
    history: (channel, options) => this.history(channel, options),
    presence: (channel) => this.presence(channel),
  };

  /** `url` is the server's address; in a browser, the page's own if it is not given. */
  constructor(url?: string | URL, options: ClientOptions = {}) {
    super();
    const { token, timeout = TIMEOUT_MS, transports = TRANSPORTS, WebSocket = globalThis.WebSocket } = options;
    this.#token = token;
    this.#timeout = timeout;
    this.#times = { ...TIMES, ...options.times };
    const place = {
      base: address(url),
      transports: transports.filter((transport) => transport !== 'websocket' || WebSocket),
      WebSocket,
      times: this.#times,
      renewable: typeof token === 'function',
      token: (reason: TokenReason) => this.#askToken(reason),
    };
    if (!place.transports.length) throw new TypeError('none of the transports can be used here');
    this.#connector = new Connector(place, {
      introduce: (text) => this.#introduce(text),
      frame: (frame) => this.#take(frame),
      drained: () => this.#flush(),
      quiet: () => this.#ask('ping', 'pong', {}),
      transport: (transport) => this.emit('transport', transport),
      lost: (end) => this.#lost(end),
      state: (state) => this.emit('state', state),
      disconnected: (end) => this.#disconnected(end),
      error: (error) => this.emit('error', error),
    });
  }

  get state(): State {
    return this.#connector.state;
  }

  /** When it tries again, milliseconds since 1970, while `waiting`. */
  get retryAt(): number | undefined {
    return this.#connector.retryAt;
  }

  /** What carries the frames, or did last. */
  get transport(): Transport | undefined {
    return this.#connector.transport;
  }

  /** Connects, if it is not connected; does not wait for `retryAt` any longer. */
  connect(): void {
    this.#connector.connect();
  }

  /** Ends the connection; subscriptions go on if `connect` is called again. */
  close(): void {
    this.#connector.close();
  }

  /** The subscription to a channel; there is one for each. */
  subscribe(channel: string, options: SubscribeOptions = {}): Subscription {
    const subscription = this.#subscriptions.get(channel) ?? this.#add(channel, options);
    if (!subscription.wanted) {
      subscription.wanted = true;
      if (this.#connector.line && subscription.state !== 'subscribed') subscription.begin();
    }
    this.#wake();
    return subscription;
  }

  /** The subscription to a channel, if there is one. */
  subscription(channel: string): Subscription | undefined {
    return this.#subscriptions.get(channel);
  }

  publish(channel: string, data?: unknown, options: PublishOptions = {}): Promise<Published> {
    const { event, tags, idempotencyKey: idempotency_key, args } = options;
    return this.#command('publish', 'published', { channel, event, ...payload(data, args), tags, idempotency_key });
  }

  /** Asks the backend; the promise is what it answers. */
  async call(method: string, data?: unknown, { args }: { args?: unknown[] } = {}): Promise<any> {
    const called = await this.#command('call', 'called', { method, ...payload(data, args) });
    return called.args ?? called.data;
  }

  history(channel: string, options: HistoryOptions = {}): Promise<History> {
    const { since, limit, reverse } = options;
    return this.#command('history', 'history', { channel, since, limit, reverse });
  }

  presence(channel: string): Promise<PresenceList> {
    return this.#command('presence', 'presence', { channel });
  }

  presenceStats(channel: string): Promise<PresenceStats> {
    return this.#command('presence_stats', 'presence_stats', { channel });
  }

  /** How long a message to the server and its answer take, milliseconds. A connection that does not answer is given up. */
  async ping(): Promise<number> {
    const began = performance.now();
    this.#connector.line?.check(true);
    await this.#command('ping', 'pong', {});
    return performance.now() - began;
  }

  // A client that was closed stays so until it is told otherwise.
  #wake(): void {
    if (this.state === 'idle') this.connect();
  }

  #command(kind: string, answer: string, body: object): Promise<any> {
    return new Promise((resolve, reject) => {
      if (this.state === 'closed') throw new DuplexError(NOT_AVAILABLE, 'the client is closed');
      this.#ask(kind, answer, body, resolve, reject, this.#timeout);
      this.#wake();
    });
  }

  /** Without `wait_ms_max` the command belongs to the connection there is. */
  #ask(
    kind: string,
    answer: string,
    body: object,
    resolve: (answer: any) => void = () => {},
    reject: (error: any) => void = () => {},
    wait_ms_max?: number,
  ): void {
    this.#conversation.ask({ kind, answer, body, resolve, reject, wait_ms_max });
    if (this.#conversation.waiting < COMMANDS_MAX) queueMicrotask(() => this.#flush());
    else this.#flush();
  }

  // What is asked in one go travels in one message.
  #flush(): void {
    const { line } = this.#connector;
    while (line && this.state === 'connected' && this.#conversation.waiting && line.writable()) {
      const message = this.#conversation.next(this.#message_bytes_max);
      if (message) line.send(message);
    }
  }

  #introduce(token: Token): Message {
    return this.#conversation.introduce(() => {
      const since = new Map<string, Position>();
      const subscriptions = [...this.#subscriptions.values()];
      for (const { given, channel, position } of subscriptions) if (given && position) since.set(channel, position);
      const refused = (error: DuplexError) => this.#refused(error);
      const body = { token: token ?? undefined, since: since.size ? Object.fromEntries(since) : undefined };
      this.#ask('connect', 'connected', body, (connected) => this.#greet(connected), refused);
      for (const subscription of subscriptions) if (subscription.wanted) subscription.begin();
    });
  }

  #greet(connected: Connected): void {
    this.id = connected.client;
    this.user = connected.user;
    this.#message_bytes_max = connected.message_bytes_max;
    this.#planRenewal(connected.expires_in_ms);
    this.#connector.greet();
    this.emit('connected', { ...connected, transport: this.transport! });
  }

  // An answer to `connect` that lets nobody in; that of a lost connection comes when its line is gone.
  #refused(error: DuplexError): void {
    if (!this.#connector.line) return;
    this.emit('error', error);
    this.#connector.abandon({ code: error.code, reason: error.message });
  }

  #take(frame: Frame): void {
    const { id, publication, subscribed, joined, left, error } = frame;
    if (publication) this.#subscriptions.get(publication.channel)?.take(publication);
    else if (id) this.#conversation.answered(frame);
    else if (subscribed) this.#give(subscribed);
    else if (joined) this.#subscriptions.get(joined.channel)?.emit('joined', joined);
    else if (left) this.#subscriptions.get(left.channel)?.emit('left', left);
    else if (error) this.emit('error', new DuplexError(error.code, error.message));
    this.#flush();
  }

  // Its token subscribes the client to this channel.
  #give(subscribed: Subscribed): void {
    const known = this.#subscriptions.get(subscribed.channel);
    const subscription = known ?? this.#add(subscribed.channel, {});
    subscription.given = true;
    if (!known) this.emit('subscription', subscription);
    subscription.start(subscribed);
  }

  #add(channel: string, options: SubscribeOptions): Subscription {
    const subscription = new Subscription(this.#host, channel, options);
    this.#subscriptions.set(channel, subscription);
    return subscription;
  }

  #unsubscribe(channel: string): Promise<void> {
    this.#subscriptions.delete(channel);
    if (!this.#connector.line) return Promise.resolve();
    // A connection that is lost has no subscriptions either.
    return new Promise((done) => this.#ask('unsubscribe', 'unsubscribed', { channel }, () => done(), () => done()));
  }

  #lost(end: End): void {
    clearTimeout(this.#renewal);
    this.id = undefined;
    for (const subscription of this.#subscriptions.values()) subscription.rest();
    const message = `the connection was lost before the answer came (${end.reason}); it is not known whether this was carried out`;
    this.#conversation.lost(new DuplexError(TIMEOUT, message));
  }

  #disconnected(end: End & { reconnect: boolean }): void {
    if (!end.reconnect) this.#end(end);
    this.emit('disconnected', end);
  }

  #end({ code, reason }: End): void {
    const wanted = code === 1000;
    const error = new DuplexError(wanted ? NOT_AVAILABLE : code, reason);
    this.#conversation.fail(error);
    for (const subscription of this.#subscriptions.values()) subscription.endReaders(wanted ? undefined : error);
  }

  async #askToken(reason: TokenReason): Promise<Token> {
    return typeof this.#token === 'function' ? this.#token({ reason }) : this.#token;
  }

  #planRenewal(expires_in_ms: number | undefined): void {
    if (expires_in_ms === undefined || typeof this.#token !== 'function') return;
    this.#renewIn(Math.max(expires_in_ms * 0.9, 1_000));
  }

  #renewIn(ms: number): void {
    clearTimeout(this.#renewal);
    this.#renewal = setTimeout(() => void this.#renew(), Math.min(ms, TIMER_MS_MAX));
  }

  async #renew(): Promise<void> {
    const { line } = this.#connector;
    try {
      const token = await this.#askToken('refresh');
      if (!token || line !== this.#connector.line) return;
      const { expires_in_ms } = await this.#command('refresh', 'refreshed', { token });
      this.#planRenewal(expires_in_ms);
    } catch (error) {
      if (line !== this.#connector.line) return;
      this.emit('error', error);
      this.#renewIn(RENEW_MS);
    }
  }
}

function payload(data: unknown, args: unknown[] | undefined): object {
  return args ? { args } : { data: data ?? null };
}

/** The server's address with the scheme of HTTP and without a slash at its end. */
function address(url: string | URL | undefined): string {
  const page = globalThis.location;
  const { protocol, host, pathname } = new URL(url ?? page.origin, page?.href);
  return `${protocol.replace('ws', 'http')}//${host}${pathname.replace(/\/+$/, '')}`;
}
