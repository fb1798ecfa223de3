import assert from 'node:assert/strict';
import { test } from 'node:test';
import { events, lines } from '../dist/split.js';

const LINES = ['{"attached":{}}', '', 'schön \u2028 🦀', '', 'last'];

// Decodes as the client does, so that characters are cut too.
function inTwo(bytes, at, take) {
  const decoder = new TextDecoder();
  for (const piece of [bytes.subarray(0, at), bytes.subarray(at)]) take(decoder.decode(piece, { stream: true }));
}

for (const [name, end] of [['LF', '\n'], ['CRLF', '\r\n']]) {
  test(`lines that end with ${name} are the same wherever the bytes are cut`, () => {
    const bytes = Buffer.from(LINES.join(end) + end);
    for (let at = 0; at <= bytes.length; at++) {
      const taken = [];
      inTwo(bytes, at, lines((line) => taken.push(line)));
      assert.deepEqual(taken, LINES, `cut at ${at}`);
    }
  });

  test(`events whose lines end with ${name} are the same wherever the bytes are cut`, () => {
    const bytes = Buffer.from(['data: {"a":"ü🦀"}', '', ': comment', '', 'id: 1', 'data:two', 'data: lines', '', 'data: cut'].join(end));
    for (let at = 0; at <= bytes.length; at++) {
      const taken = [];
      inTwo(bytes, at, lines(events((data) => taken.push(data))));
      assert.deepEqual(taken, ['{"a":"ü🦀"}', 'two\nlines'], `cut at ${at}`);
    }
  });
}

test('bytes that come one by one are the same text', () => {
  const taken = [];
  const take = lines(events((data) => taken.push(data)));
  const decoder = new TextDecoder();
  for (const byte of Buffer.from('data: 🦀\u2029\r\rdata\n\n')) take(decoder.decode(Buffer.of(byte), { stream: true }));
  assert.deepEqual(taken, ['🦀\u2029', '']);
});

test('a line is not taken before its end has come', () => {
  const taken = [];
  const take = lines((line) => taken.push(line));
  take('{"a":1}');
  assert.deepEqual(taken, []);
  take('\n{"b"');
  assert.deepEqual(taken, ['{"a":1}']);
});

test('a field whose name only begins like data is none', () => {
  const taken = [];
  const take = events((data) => taken.push(data));
  for (const line of ['database: 1', 'data', ' data: 2', '']) take(line);
  assert.deepEqual(taken, ['']);
});
