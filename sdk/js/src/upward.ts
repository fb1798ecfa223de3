import { jitter } from './backoff.js';
import type { End, Message } from './protocol.js';
import type { Times } from './times.js';
import { BROKEN, type Wire, post } from './wire.js';

const UNACKNOWLEDGED_MAX = 16 * 1024;

interface Numbered extends Message {
  number: number;
}

/** What messages need of their session. */
export interface UpwardEvents {
  /** The number of the last frame that arrived. */
  seen(): number;
  drained(): void;
  over(end: End): void;
}

/**
 * A session's messages on their way up. Each is kept until it is known to have arrived: by the answer to its POST, by
 * an answer to one of its commands, or by what the next transport says.
 */
export class Upward {
  #url: string;
  #times: Times;
  #events: UpwardEvents;
  // The body of the request that opened the session was number 1.
  #number = 1;
  #kept: Numbered[] = [];
  #posting = false;
  #posted = 1;
  #failures = 0;
  #stopped = false;
  #socket: Wire | undefined;
  #sent = 0;
  #uncertain = false;
  #unacknowledged = 0;
  #due = false;
  #dueTimer: ReturnType<typeof setTimeout> | undefined;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(url: string, times: Times, events: UpwardEvents) {
    this.#url = url;
    this.#times = times;
    this.#events = events;
  }

  /** Over HTTP one message is under way at a time: what comes meanwhile goes up together in the next. */
  writable(bytes_max: number): boolean {
    return this.#socket ? this.#socket.waiting!() < bytes_max : !this.#kept.length && !this.#uncertain;
  }

  send(message: Message): void {
    this.#kept.push({ ...message, number: ++this.#number });
    this.#pump();
  }

  /** A transport has begun, and the server has `received` so many messages. */
  attach(wire: Wire, received: number): void {
    this.#socket = wire.send && wire;
    this.#sent = received;
    this.#uncertain = false;
    this.#settle((message) => message.number <= received);
    this.#pump();
  }

  /** Another request has begun that is no socket. */
  reattach(): void {
    this.#uncertain = false;
    this.#pump();
  }

  /** A transport has ended. What a socket took may have arrived; the next transport will tell. */
  detach(): void {
    this.#uncertain ||= !!this.#socket;
    this.#socket = undefined;
  }

  /** Commands are carried out in order, so an answer tells of all messages up to its own. */
  answered(id: number): void {
    this.#settle((message) => message.id <= id);
  }

  /** A frame of this length arrived that nothing has acknowledged yet. */
  owe(length: number): void {
    this.#unacknowledged += length;
    if (this.#unacknowledged > UNACKNOWLEDGED_MAX) this.#acknowledge();
    else this.#dueTimer ??= setTimeout(() => this.#acknowledge(), this.#times.acknowledge);
  }

  stop(): void {
    this.#stopped = true;
    this.#socket = undefined;
    clearTimeout(this.#dueTimer);
    clearTimeout(this.#retryTimer);
  }

  #acknowledge(): void {
    this.#due = true;
    this.#pump();
  }

  #settle(arrived: (message: Numbered) => boolean): void {
    if (!this.#kept[0] || !arrived(this.#kept[0])) return;
    while (this.#kept[0] && arrived(this.#kept[0])) this.#kept.shift();
    this.#events.drained();
  }

  // A POST without an answer may arrive late, and only a POST with the same number is then not carried out again.
  #pump(): void {
    const [next] = this.#kept;
    const begun = next && next.number <= this.#posted;
    if (this.#socket && !begun) this.#write(this.#socket);
    else if (!this.#posting && (begun || (!this.#uncertain && (next || this.#due)))) void this.#post(next);
  }

  #write(socket: Wire): void {
    for (const { number, text } of this.#kept) {
      if (number <= this.#sent) continue;
      this.#sent = number;
      socket.send!(text);
    }
  }

  async #post(message: Numbered | undefined): Promise<void> {
    this.#posting = true;
    this.#unacknowledged = 0;
    clearTimeout(this.#dueTimer);
    this.#dueTimer = undefined;
    if (message) this.#posted = message.number;
    const number = message ? `&n=${message.number}` : '';
    const address = `${this.#url}?after=${this.#events.seen()}${number}`;
    const end = await post(address, message?.text ?? null, this.#times.answer).catch(() => BROKEN);
    if (!this.#stopped) this.#conclude(end, message);
  }

  #conclude(end: End, message: Numbered | undefined): void {
    if (end.code < 300) {
      this.#failures = 0;
      this.#due = false;
      if (message) this.#settle(({ number }) => number <= message.number);
      this.#resume();
    } else if (end.code >= 500 || end.code === 429 || end.code === 408) {
      this.#retryTimer = setTimeout(() => this.#resume(), end.after_ms ?? jitter(this.#times, this.#failures++));
    } else this.#events.over(end);
  }

  #resume(): void {
    this.#posting = false;
    this.#pump();
  }
}
