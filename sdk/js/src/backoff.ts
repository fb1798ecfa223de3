import type { End } from './protocol.js';
import type { Times } from './times.js';

/** Close codes after which coming back in the same way leads to the same end. */
export function isFinal({ code, reconnect }: End): boolean {
  const final = code >= 3500 || code === 1002 || code === 1007 || code === 1009 || code === 401 || code === 403;
  return !(reconnect ?? !final);
}

/** Any part of a time that doubles with each loss, so that clients that were cut off together do not come back together. */
export function jitter({ backoff, backoffMax }: Times, losses: number): number {
  return Math.random() * Math.min(backoffMax, backoff * 2 ** losses);
}

/** Decides when to come back. */
export class Backoff {
  losses = 0;
  #since = Infinity;

  constructor(readonly times: Times) {}

  connected(now: number): void {
    this.#since = now;
  }

  /** How long to wait after `end`. */
  delay(end: End, now: number): number {
    if (now - this.#since >= this.times.stable) this.losses = 0;
    this.#since = Infinity;
    const delay = end.after_ms ?? jitter(this.times, this.losses);
    // Who sent too much would only do so again.
    this.losses += end.code === 1008 || end.code === 3013 ? 4 : 1;
    return delay;
  }
}
