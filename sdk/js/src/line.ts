import type { End, Frame, Message, Transport } from './protocol.js';
import type { Times } from './times.js';
import type { WebSocketLike } from './wire.js';

/** A connection as its conversation sees it: each message arrives once and in order, and so does each frame. */
export interface Line {
  /** Whether it takes another message now; `drained` tells when it does again. */
  writable(): boolean;
  send(message: Message): void;
  /** Sees to it that the other side is still there, which must answer now; it was `asked` something, or is asked. */
  check(asked?: boolean): void;
  /** Ends it for good, without `lost`. */
  close(): void;
  /** Tells the server, if nothing else does, that the page goes away. */
  leave(): void;
}

/** What a line tells. */
export interface LineEvents {
  /** Frames come over this transport now; over none for a while. */
  carried(transport: Transport | undefined): void;
  frame(frame: Frame): void;
  drained(): void;
  /** Nothing was heard for a while: a ping would tell whether someone is there. */
  quiet(): void;
  lost(end: End): void;
}

/** Where a line leads and by what. */
export interface Way {
  /** The server's address without a slash at its end. */
  base: string;
  /** What stands behind `?` when coming back. */
  query: string;
  /** The transports that may be used, the best first. */
  transports: Transport[];
  WebSocket: WebSocketLike | undefined;
  /** How long a WebSocket may take to open. */
  open_ms_max: number;
  times: Times;
}

/** As much may wait in a socket; what comes then waits with the commands, whose number is limited. */
export const WAITING_BYTES_MAX = 1 << 20;

export const socketAddress = (base: string): string => base.replace(/^http/, 'ws');

/** The end that a `closing` frame tells of. */
export function farewell({ code, message, reconnect, after_ms }: NonNullable<Frame['closing']>): End {
  return { code, reason: message, reconnect, after_ms };
}
