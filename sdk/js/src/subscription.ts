import { DuplexError, LIMIT_EXCEEDED } from './error.js';
import { Emitter } from './emitter.js';
import type { History, Position, Presence, PresenceList, Publication, Published, Subscribed } from './protocol.js';

/** Publications that wait for a slow reader; one more ends its loop with error 106. */
const UNREAD_MAX = 1_000;

/** Errors that may be over the next time: internal, not available, too many requests, timeout. */
const TEMPORARY = [100, 108, 111, 114];
const ALREADY_SUBSCRIBED = 105;
const TOKEN_EXPIRED = 109;

export interface SubscribeOptions {
  /** Begins behind this position. */
  since?: Position;
  /** A subscription token, or a function that gets one whenever it is needed. */
  token?: string | ((request: { channel: string }) => string | Promise<string>);
}

export interface SubscriptionEvents {
  publication: Publication;
  [name: `event:${string}`]: Publication;
  subscribed: Subscribed;
  joined: Presence;
  left: Presence;
  error: unknown;
  /** With the error if it was not asked for. */
  unsubscribed: unknown;
}

export interface PublishOptions {
  event?: string;
  tags?: Record<string, string>;
  idempotencyKey?: string;
  /** Positional arguments in place of the data. */
  args?: unknown[];
}

export interface HistoryOptions {
  since?: Position;
  limit?: number;
  reverse?: boolean;
}

/** What a subscription needs of its client. */
export interface Host {
  subscribe(body: object, resolve: (answer: Subscribed) => void, reject: (error: unknown) => void): void;
  unsubscribe(channel: string): Promise<void>;
  forget(channel: string): void;
  /** How long to wait after the failure that has this number. */
  delay(failures: number): number;
  publish(channel: string, data?: unknown, options?: PublishOptions): Promise<Published>;
  history(channel: string, options?: HistoryOptions): Promise<History>;
  presence(channel: string): Promise<PresenceList>;
}

interface Reader {
  unread: Publication[];
  ended: boolean;
  error?: unknown;
  wake(): void;
}

/** A channel as this client sees it: events, and an endless series of publications. */
export class Subscription extends Emitter<SubscriptionEvents> implements AsyncIterable<Publication> {
  readonly channel: string;
  state: 'subscribing' | 'subscribed' | 'unsubscribed' = 'subscribing';
  /** Where the newest publication stands that was seen, or where the subscription began. */
  position: Position | undefined;
  /** Whether everything missed was sent when it last came back; undefined if there was no position to come back to. */
  recovered: boolean | undefined;
  /** @internal The token of the client subscribes it. */
  given = false;
  /** @internal Someone asked for it. */
  wanted = false;
  #host: Host;
  #token: SubscribeOptions['token'];
  #readers = new Set<Reader>();
  #failures = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  // What was asked for in an earlier turn is of no interest any more.
  #turn = 0;

  /** @internal */
  constructor(host: Host, channel: string, { since, token }: SubscribeOptions) {
    super();
    this.#host = host;
    this.channel = channel;
    this.position = since;
    this.#token = token;
  }

  publish(data?: unknown, options?: PublishOptions): Promise<Published> {
    return this.#host.publish(this.channel, data, options);
  }

  history(options?: HistoryOptions): Promise<History> {
    return this.#host.history(this.channel, options);
  }

  presence(): Promise<PresenceList> {
    return this.#host.presence(this.channel);
  }

  /** Ends it for good; resolved when nothing more can come. */
  async unsubscribe(): Promise<void> {
    if (this.state === 'unsubscribed') return;
    this.#end();
    await this.#host.unsubscribe(this.channel);
  }

  /** All publications from now on, until the subscription or the client ends. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Publication, void, void> {
    const reader: Reader = { unread: [], ended: this.state === 'unsubscribed', wake() {} };
    this.#readers.add(reader);
    try {
      for (;;) {
        if (reader.unread.length) yield reader.unread.shift()!;
        else if (reader.error) throw reader.error;
        else if (reader.ended) return;
        else await new Promise<void>((resolve) => (reader.wake = resolve));
      }
    } finally {
      this.#readers.delete(reader);
    }
  }

  /** @internal Asks for it on a connection that is new. */
  begin(): void {
    this.rest();
    const turn = this.#turn;
    const token = this.#token;
    if (typeof token !== 'function') return this.#ask(token);
    const now = (then: (value: any) => void) => (value: unknown) => turn === this.#turn && then(value);
    (async () => token({ channel: this.channel }))().then(
      now((text) => this.#ask(text)),
      now((error) => this.#later(error)),
    );
  }

  /** @internal There is no connection; a new one begins it again. */
  rest(): void {
    this.#turn++;
    clearTimeout(this.#timer);
    this.state = 'subscribing';
  }

  /** @internal */
  start(subscribed: Subscribed): void {
    const { epoch, offset } = subscribed;
    // Nothing was recovered if the server was not told of a position that is known here.
    const recovered = subscribed.recovered ?? (this.position && false);
    this.#failures = 0;
    this.state = 'subscribed';
    this.recovered = recovered;
    // What was missed follows, and until it is here, this is where we stand.
    if (!recovered) this.position = { epoch, offset };
    this.emit('subscribed', { ...subscribed, recovered });
  }

  /** @internal */
  take(publication: Publication): void {
    if (this.state !== 'subscribed') return;
    const { epoch, offset, event } = publication;
    this.position = { epoch, offset };
    for (const reader of this.#readers) keep(reader, publication);
    this.emit('publication', publication);
    this.emit(`event:${event}`, publication);
  }

  /** @internal The client ends, with an error if it did not want to. */
  endReaders(error?: unknown): void {
    for (const reader of this.#readers) finish(reader, error);
  }

  #ask(token: string | undefined): void {
    const turn = this.#turn;
    const now = (then: (value: any) => void) => (value: unknown) => turn === this.#turn && then(value);
    const body = { channel: this.channel, since: this.position, token };
    this.#host.subscribe(body, now((answer) => this.start(answer)), now((error) => this.#refused(error)));
  }

  #refused(error: DuplexError): void {
    // The token of the client subscribes it too, and that was faster.
    if (error.code === ALREADY_SUBSCRIBED) return;
    const renewable = error.code === TOKEN_EXPIRED && typeof this.#token === 'function';
    if (renewable || TEMPORARY.includes(error.code)) return this.#later(error);
    this.emit('error', error);
    this.#end(error);
    this.#host.forget(this.channel);
  }

  #later(error: unknown): void {
    this.#timer = setTimeout(() => this.begin(), this.#host.delay(++this.#failures));
    this.emit('error', error);
  }

  #end(error?: unknown): void {
    this.rest();
    this.state = 'unsubscribed';
    this.endReaders(error);
    this.emit('unsubscribed', error);
  }
}

function keep(reader: Reader, publication: Publication): void {
  if (reader.ended) return;
  if (reader.unread.length < UNREAD_MAX) reader.unread.push(publication);
  else finish(reader, new DuplexError(LIMIT_EXCEEDED, `${UNREAD_MAX} publications were not read in time`));
  reader.wake();
}

function finish(reader: Reader, error?: unknown): void {
  if (!reader.ended) reader.error = error;
  reader.ended = true;
  reader.wake();
}
