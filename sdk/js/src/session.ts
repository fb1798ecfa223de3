import { isFinal, jitter } from './backoff.js';
import { type Line, type LineEvents, WAITING_BYTES_MAX, type Way, farewell, socketAddress } from './line.js';
import type { Attached, End, Frame, Message, Transport } from './protocol.js';
import { Upward } from './upward.js';
import { Watch } from './watch.js';
import { BROKEN, type Wire, openResponse, openSocket, post } from './wire.js';

/** What `heartbeat_ms` is until the server has said it. */
const HEARTBEAT_MS = 25_000;
/** The status of a poll that another request has replaced. */
const GAVE_WAY = 409;
/** Whoever carried something for so long was not cut off at once. */
const SHORT_MS = 1_000;

/** Whether a carrier that is gone was worth its try. */
type Fate = 'useful' | 'failed';

/** A request that carries frames down. */
interface Carrier {
  transport: Transport;
  wire: Wire;
  watch: Watch;
  /** What it asked for: the frames behind this number. */
  after: number;
  /** The number of its last frame; undefined until it is attached. */
  at?: number;
  /** Whether it is a socket that is open. */
  open?: boolean;
  /** Whether it was of any use: it brought a frame, or stayed for long. */
  useful?: boolean;
  /** Whether it is tried although another one works. */
  upgrade?: boolean;
  since: number;
}

/** A conversation that goes on while transports come and go. */
export class Session implements Line {
  #way: Way;
  #order: Transport[];
  #events: LineEvents;
  #id = '';
  #url = '';
  #linger_ms = 0;
  #up: Upward | undefined;
  #seen = 0;
  #heartbeat_ms = HEARTBEAT_MS;
  #patience_ms: number;
  #over = false;

  #carriers = new Set<Carrier>();
  // The one that brings frames, and the one that may become it.
  #current: Carrier | undefined;
  #trial: Carrier | undefined;
  #proven: Transport | undefined;
  #tried = 0;
  #alive = performance.now();
  #nextTimer: ReturnType<typeof setTimeout> | undefined;

  #upgrade_ms: number;
  #upgrades = 0;
  #upgradeTimer: ReturnType<typeof setTimeout> | undefined;

  /** `order` is that in which transports are tried. */
  constructor(way: Way, order: Transport[], first: Message, events: LineEvents) {
    this.#way = way;
    this.#order = order;
    this.#events = events;
    this.#patience_ms = way.times.attach;
    this.#upgrade_ms = way.times.upgrade;
    void this.#open(first);
  }

  writable(): boolean {
    return !!this.#up?.writable(WAITING_BYTES_MAX);
  }

  send(message: Message): void {
    this.#up?.send(message);
  }

  check(asked?: boolean): void {
    this.#current?.watch.check(asked);
  }

  close(): void {
    this.#stop();
    this.leave();
  }

  // A beacon outlives its page.
  leave(): void {
    if (!this.#url) return;
    const end = `${this.#url}/end`;
    if (globalThis.navigator?.sendBeacon?.(end)) return;
    fetch(end, { method: 'POST', keepalive: true }).catch(() => {});
  }

  async #open(first: Message): Promise<void> {
    const { base, query, times } = this.#way;
    const began = performance.now();
    const answer = await post(`${base}/session${query}`, first.text, times.answer).catch(() => BROKEN);
    if (answer.code >= 300) return this.#lose(answer);
    this.#patience_ms = Math.max(times.attach, 3 * (performance.now() - began));
    try {
      const { session, linger_ms } = JSON.parse(answer.reason);
      this.#begin(session, linger_ms);
    } catch {
      this.#lose(BROKEN);
    }
  }

  #begin(id: string, linger_ms: number): void {
    this.#id = id;
    this.#url = `${this.#way.base}/session/${id}`;
    if (this.#over) return this.leave();
    this.#linger_ms = linger_ms;
    this.#up = new Upward(this.#url, this.#way.times, {
      seen: () => this.#acknowledged(),
      drained: this.#events.drained,
      over: (end) => this.#lose(end),
    });
    this.#next('failed');
  }

  #try(transport: Transport): Carrier {
    const watch = new Watch(() => this.#silent(carrier), this.#way.times.answer);
    const carrier = { transport, watch, after: this.#acknowledged(), since: performance.now() } as Carrier;
    watch.expect(this.#patience(transport));
    this.#carriers.add(carrier);
    carrier.wire = this.#carry(carrier);
    return carrier;
  }

  #carry(carrier: Carrier): Wire {
    const ear = {
      opened: () => (carrier.open = true),
      // Until it is attached, only that counts.
      heard: () => carrier.at === undefined || carrier.watch.heard(),
      frame: (frame: Frame, length: number) => this.#take(carrier, frame, length),
      ended: (end: End) => this.#ended(carrier, end),
    };
    const { base, WebSocket } = this.#way;
    const { transport } = carrier;
    const after = `after=${carrier.after}`;
    return transport === 'websocket'
      ? openSocket(WebSocket!, `${socketAddress(base)}/ws?session=${this.#id}&${after}`, ear)
      : openResponse(`${this.#url}/${transport}?${after}`, transport === 'sse' ? 'events' : 'lines', ear);
  }

  #take(carrier: Carrier, frame: Frame, length: number): void {
    if (frame.attached) return this.#adopt(carrier, frame.attached);
    // Two carriers may bring the same frames while one takes over from the other.
    if (carrier.at === undefined || ++carrier.at <= this.#seen) return;
    if (carrier.at > ++this.#seen) return this.#lose(BROKEN);
    carrier.useful = true;
    if (frame.closing) return this.#lose(farewell(frame.closing));
    if (frame.id) this.#up!.answered(frame.id);
    if (carrier.transport === 'sse' || carrier.transport === 'stream') this.#up!.owe(length);
    if (frame.connected) {
      this.#heartbeat_ms = frame.connected.heartbeat_ms;
      this.#expect(carrier);
    }
    this.#events.frame(frame);
  }

  #adopt(carrier: Carrier, { after, received }: Attached): void {
    // The server has ended those before; one behind it may take over yet.
    for (const other of this.#carriers) {
      if (other === carrier) break;
      this.#drop(other);
    }
    clearTimeout(this.#nextTimer);
    if (carrier === this.#trial) this.#trial = undefined;
    this.#current = carrier;
    this.#proven = carrier.transport;
    this.#alive = carrier.since = performance.now();
    carrier.at = after;
    this.#expect(carrier);
    this.#up!.attach(carrier.wire, received);
    this.#events.carried(carrier.transport);
    this.#planUpgrade();
  }

  // A socket shows by a ping that it lives; of a response the server takes care.
  #expect({ transport, watch }: Carrier): void {
    if (transport === 'websocket') watch.expect(this.#heartbeat_ms, this.#events.quiet);
    else watch.expect(this.#heartbeat_ms + this.#way.times.answer);
  }

  #drop(carrier: Carrier): void {
    this.#carriers.delete(carrier);
    carrier.watch.stop();
    carrier.wire.close();
  }

  // What a carrier asks for that has not begun yet must still be there when the server hears of it.
  #acknowledged(): number {
    const asked = [...this.#carriers].filter(({ at }) => at === undefined).map(({ after }) => after);
    return Math.min(this.#seen, ...asked);
  }

  // An open socket that the client closes ends the session, so it stays until another carrier has taken over.
  #silent(carrier: Carrier): void {
    if (!carrier.open) this.#drop(carrier);
    if (carrier.at !== undefined) this.#tried = this.#order.indexOf(carrier.transport) + 1;
    this.#gone(carrier, 'failed');
  }

  #ended(carrier: Carrier, end: End): void {
    this.#drop(carrier);
    if (end.code === 404 || end.code === 410 || isFinal(end)) return this.#lose(end);
    const other = [...this.#carriers].find(({ transport, at }) => transport === 'poll' && at === undefined);
    if (end.code === GAVE_WAY && other) return this.#confirm(other);
    if (carrier.at !== undefined) this.#alive = performance.now();
    const useful = carrier.useful || (carrier.at !== undefined && this.#alive - carrier.since > SHORT_MS);
    if (useful) this.#tried = 0;
    this.#gone(carrier, useful ? 'useful' : 'failed', end.after_ms);
  }

  #gone(carrier: Carrier, fate: Fate, after_ms?: number): void {
    if (carrier === this.#current) {
      this.#current = undefined;
      this.#up!.detach();
    } else if (carrier === this.#trial) this.#trial = undefined;
    else return;
    if (!this.#trial && !this.#current) this.#next(carrier.upgrade ? 'useful' : fate, after_ms);
  }

  // What worked last is tried first; what fails is followed by the others in turn, until the server must have given up.
  #next(fate: Fate, after_ms?: number): void {
    const { length } = this.#order;
    const again = fate === 'useful' && this.#proven;
    const hopeless = this.#proven ? performance.now() - this.#alive > this.#linger_ms : this.#tried === length;
    if (!again && hopeless) return this.#lose(BROKEN);
    if (!again && this.#proven) this.#events.carried(undefined);
    const transport = again || this.#order[this.#tried++ % length]!;
    const delay_ms = after_ms ?? (this.#tried > length ? jitter(this.#way.times, this.#tried - length) : 0);
    if (delay_ms) this.#nextTimer = setTimeout(() => this.#start(transport), delay_ms);
    else this.#start(transport);
  }

  // A poll does not answer before there is something to tell. After another poll it counts as soon as it is asked; in the
  // middle of a session there are two at first, because the one that must give way shows at once that both got through.
  #start(transport: Transport): void {
    const goesOn = transport === 'poll' && this.#proven === 'poll';
    if (transport === 'poll' && this.#proven && !goesOn) this.#try(transport);
    const carrier = this.#try(transport);
    if (goesOn) this.#current = carrier;
    else this.#trial = carrier;
  }

  #confirm(poll: Carrier): void {
    this.#trial = undefined;
    this.#current = poll;
    this.#proven = 'poll';
    this.#alive = performance.now();
    this.#up!.reattach();
    this.#events.carried('poll');
    this.#planUpgrade();
  }

  #patience(transport: Transport): number {
    const { times, open_ms_max } = this.#way;
    if (transport === 'websocket') return Math.max(this.#patience_ms, open_ms_max);
    if (transport === 'poll') return this.#heartbeat_ms + times.answer;
    return transport === this.#proven ? times.answer : this.#patience_ms;
  }

  #better(): Transport[] {
    const { transports } = this.#way;
    return transports.slice(0, transports.indexOf(this.#proven!));
  }

  #planUpgrade(): void {
    if (this.#upgradeTimer || !this.#better().length) return;
    this.#upgradeTimer = setTimeout(() => this.#upgrade(), this.#upgrade_ms);
    this.#upgrade_ms = Math.min(this.#way.times.upgradeMax, 2 * this.#upgrade_ms);
  }

  #upgrade(): void {
    const better = this.#better();
    if (better.length && this.#current && !this.#trial) {
      this.#trial = this.#try(better[this.#upgrades++ % better.length]!);
      this.#trial.upgrade = true;
    }
    this.#upgradeTimer = undefined;
    this.#planUpgrade();
  }

  #stop(): void {
    this.#over = true;
    for (const carrier of this.#carriers) this.#drop(carrier);
    this.#up?.stop();
    clearTimeout(this.#nextTimer);
    clearTimeout(this.#upgradeTimer);
  }

  #lose(end: End): void {
    if (this.#over) return;
    this.#stop();
    if (end === BROKEN) this.leave();
    this.#events.lost(end);
  }
}
