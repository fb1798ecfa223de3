import { type Line, type LineEvents, WAITING_BYTES_MAX, type Way, farewell, socketAddress } from './line.js';
import type { End, Frame, Message } from './protocol.js';
import { Watch } from './watch.js';
import { BROKEN, type Wire, openSocket } from './wire.js';

/** A WebSocket with a conversation of its own. */
export class Direct implements Line {
  #wire: Wire;
  #watch: Watch;
  #events: LineEvents;
  #unreachable: (end: End) => void;
  #heard = false;

  /** `unreachable` is told instead of `lost` if nothing ever came. */
  constructor(way: Way, first: Message, events: LineEvents, unreachable: (end: End) => void) {
    this.#events = events;
    this.#unreachable = unreachable;
    this.#watch = new Watch(() => this.#lose(BROKEN), way.times.answer);
    this.#watch.expect(way.open_ms_max);
    this.#wire = openSocket(way.WebSocket!, `${socketAddress(way.base)}/ws${way.query}`, {
      opened: () => {
        this.#watch.expect(way.times.answer);
        this.send(first);
      },
      heard: () => this.#watch.heard(),
      frame: (frame) => this.#take(frame),
      ended: (end) => this.#lose(end),
    });
  }

  writable(): boolean {
    return this.#wire.waiting!() < WAITING_BYTES_MAX;
  }

  send(message: Message): void {
    this.#wire.send!(message.text);
  }

  check(asked?: boolean): void {
    this.#watch.check(asked);
  }

  close(): void {
    this.#watch.stop();
    this.#wire.close();
  }

  // The browser closes the sockets of a page that goes away.
  leave(): void {}

  #take(frame: Frame): void {
    this.#heard = true;
    if (frame.closing) return this.#lose(farewell(frame.closing));
    if (frame.connected) this.#greet(frame.connected.heartbeat_ms);
    this.#events.frame(frame);
  }

  #greet(heartbeat_ms: number): void {
    this.#watch.expect(heartbeat_ms, this.#events.quiet);
    this.#events.carried('websocket');
  }

  #lose(end: End): void {
    this.close();
    const refused = this.#heard || end.code > BROKEN.code;
    (refused ? this.#events.lost : this.#unreachable)(end);
  }
}
