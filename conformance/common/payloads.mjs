// What is sent to see whether it arrives as it was.
import { randomUUID } from 'node:crypto';

/** Each is the arguments of one event. */
export const PAYLOADS = [
  ['hello'],
  [''],
  ['é ß 漢字 🙂 👩‍👩‍👧 \u2028 \u0000 \u001e \ufeff'],
  ['"quotes", \\ and\nnewlines', '42["not","a","packet"]', '{"_placeholder":true,"num":0}'],
  // Nothing beyond 64 bits: the MessagePack parser writes such integers wrongly.
  [0, 1, -1, 0.1, 5e-324, 2 ** 53 - 1, -(2 ** 53)],
  [true, false, null],
  [{}], [[]], [[[]]], [[null]],
  [{ a: { b: [1, { c: 'd' }, [[], {}]] }, 'ключ': ['é', null], '': 0 }],
  ['several', 2, { three: 3 }, ['four']],
  ['x'.repeat(5_000)],
  [{ _placeholder: true, num: 0 }],
];

export const ALL_BYTES = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));

export const BINARY_PAYLOADS = [
  [ALL_BYTES],
  [Buffer.alloc(0)],
  ['before', Buffer.from([0]), 'between', Buffer.from([1, 2]), 'behind'],
  [{ a: { b: [Buffer.from('deep'), 'text', { c: Buffer.from('deeper 🙂') }] } }, [Buffer.from([255])]],
  [new Uint8Array([7, 8, 9]), new Uint8Array([1, 2, 3]).buffer],
  [Array.from({ length: 10 }, (_, n) => Buffer.alloc(n, n))],
  [Buffer.alloc(30_000, 'binary')],
];

/** The same with all bytes written as hexadecimal text, so that it does not matter what a client puts bytes into. */
export function plain(value) {
  if (value instanceof ArrayBuffer) return plain(Buffer.from(value));
  if (ArrayBuffer.isView(value)) return { bytes: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex') };
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
}

/** A channel that no other test uses. */
export const fresh = (prefix = '') => `${prefix}${randomUUID()}`;

export const numbers = (count, from = 0) => Array.from({ length: count }, (_, n) => from + n);

/** An epoch that is not this one and may have been before it. */
export const anotherEpoch = (epoch) => epoch.slice(0, -1) + (epoch.endsWith('0') ? '1' : '0');
