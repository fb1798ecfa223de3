// Waiting for what must come: everything has a deadline, and whoever misses it is named.
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';

const DEADLINE_MS = 10_000;

/** The promise's value, or a failure that says what was waited for. */
export function within(promise, what, deadline_ms = DEADLINE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${deadline_ms} ms in vain for ${describe(what)}`)), deadline_ms);
  });
  const first = Promise.race([promise, late]).finally(() => clearTimeout(timer));
  // A test that has failed elsewhere no longer looks at it.
  first.catch(() => {});
  return first;
}

const describe = (what) => (typeof what === 'function' ? what() : what);

/** The arguments of the next such event. */
export function next(emitter, event, deadline_ms) {
  return within(new Promise((resolve) => emitter.once(event, (...args) => resolve(args))), `the event ${event}`, deadline_ms);
}

/** Notes events with their arguments, in the order in which they come. */
export function hear(emitter, ...events) {
  const heard = new Heard();
  for (const event of events) emitter.on(event, (...args) => heard.note([event, ...args]));
  return heard;
}

export class Heard {
  all = [];
  #waiting = [];

  note(entry) {
    this.all.push(entry);
    this.#waiting = this.#waiting.filter(({ isEnough, resolve }) => !isEnough() || resolve(this.all));
  }

  /** What was heard, once it is so much. */
  count(number, deadline_ms) {
    return this.#until(() => this.all.length >= number, () => `${number} events; there were ${this.all.length}`, deadline_ms);
  }

  /** What was heard, up to this entry at least. */
  upTo(last, deadline_ms) {
    const isLast = (entry) => JSON.stringify(entry) === JSON.stringify(last);
    const told = () => `${JSON.stringify(last)} behind ${JSON.stringify(this.all.slice(-5))}`;
    return this.#until(() => this.all.some(isLast), told, deadline_ms);
  }

  #until(isEnough, told, deadline_ms) {
    if (isEnough()) return Promise.resolve(this.all);
    return within(new Promise((resolve) => this.#waiting.push({ isEnough, resolve })), told, deadline_ms);
  }
}

/** For what nobody is told of: asks again until the check passes. */
export async function eventually(check, deadline_ms = DEADLINE_MS) {
  const end = Date.now() + deadline_ms;
  for (;;) {
    try {
      return await check();
    } catch (failure) {
      if (Date.now() > end) throw failure;
      await pause(20);
    }
  }
}

/** The sentence and code of a refusal. */
export function assertRefusal(answer, code) {
  assert.deepEqual(Object.keys(answer), ['error'], JSON.stringify(answer));
  assert.equal(answer.error.code, code, JSON.stringify(answer));
  assert.equal(typeof answer.error.message, 'string');
  assert.notEqual(answer.error.message, '');
}
