import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { Backoff, isFinal, jitter } from '../dist/backoff.js';
import { TIMES } from '../dist/times.js';

const BROKEN = { code: 1006, reason: '' };
let random = 1;

beforeEach(() => mock.method(Math, 'random', () => random));
afterEach(() => mock.restoreAll());

test('delays double from half a second to half a minute', () => {
  const backoff = new Backoff(TIMES);
  const delays = Array.from({ length: 8 }, () => backoff.delay(BROKEN, 0));
  assert.deepEqual(delays, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
});

test('a delay is any part of it', () => {
  random = 0.25;
  assert.equal(jitter(TIMES, 2), 500);
  random = 1;
});

test('only a connection that was good for a while makes the next loss the first again', () => {
  const backoff = new Backoff(TIMES);
  backoff.delay(BROKEN, 0);
  backoff.connected(1_000);
  assert.equal(backoff.delay(BROKEN, 10_999), 1_000);
  backoff.connected(20_000);
  assert.equal(backoff.delay(BROKEN, 30_000), 500);
});

test('what the server asks for is done', () => {
  assert.equal(new Backoff(TIMES).delay({ code: 1012, reason: '', after_ms: 2_750 }, 0), 2_750);
});

test('who sent too much stays away for longer', () => {
  const backoff = new Backoff(TIMES);
  backoff.delay({ code: 3013, reason: '' }, 0);
  assert.equal(backoff.delay(BROKEN, 0), 8_000);
});

test('some ends are final, unless the server says otherwise', () => {
  for (const code of [1002, 1007, 1009, 3500, 3501, 3507, 4000, 401, 403]) assert.ok(isFinal({ code, reason: '' }), String(code));
  for (const code of [1000, 1001, 1006, 1008, 1012, 1013, 3005, 3008, 404, 503]) assert.ok(!isFinal({ code, reason: '' }), String(code));
  assert.ok(isFinal({ code: 1012, reason: '', reconnect: false }));
  assert.ok(!isFinal({ code: 3500, reason: '', reconnect: true }));
});
