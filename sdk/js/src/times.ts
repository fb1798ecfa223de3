/** How long things may take, in milliseconds. */
export interface Times {
  /** Until a WebSocket is open: the first try; each later one has twice as long, up to `openMax`. */
  open: number;
  openMax: number;
  /** Until a response begins, or three round trips if that is longer; then the next transport is tried. */
  attach: number;
  /** Until an answer comes to a ping, a request or a connection that should be there. */
  answer: number;
  /** Until frames that arrived are acknowledged. */
  acknowledge: number;
  /** Until the first reconnect, at most; each later one has twice as long, up to `backoffMax`. */
  backoff: number;
  backoffMax: number;
  /** Until a connection counts as good, so that the next loss is the first again. */
  stable: number;
  /** Until a better transport is tried; each later try waits twice as long, up to `upgradeMax`. */
  upgrade: number;
  upgradeMax: number;
  /** For how long the transport that worked is tried first. */
  remember: number;
}

export const TIMES: Times = {
  open: 2_000,
  openMax: 10_000,
  attach: 1_000,
  answer: 10_000,
  acknowledge: 5_000,
  backoff: 500,
  backoffMax: 30_000,
  stable: 10_000,
  upgrade: 60_000,
  upgradeMax: 1_800_000,
  remember: 3_600_000,
};

/** What `heartbeat_ms` is until the server has said it. */
export const HEARTBEAT = 25_000;
