import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Conversation } from '../dist/conversation.js';
import { DuplexError } from '../dist/error.js';

function ask(conversation, body, { kind = 'ping', answer = 'pong', wait_ms_max } = {}) {
  return new Promise((resolve, reject) => conversation.ask({ kind, answer, body, resolve, reject, wait_ms_max }));
}

test('one command is a message of its own, several are an array', () => {
  const conversation = new Conversation();
  ask(conversation, {});
  assert.deepEqual(conversation.next(1_000), { text: '{"id":1,"ping":{}}', id: 1 });
  ask(conversation, {});
  ask(conversation, { a: 'ü' });
  assert.deepEqual(conversation.next(1_000), { text: '[{"id":2,"ping":{}},{"id":3,"ping":{"a":"ü"}}]', id: 2 });
  assert.equal(conversation.next(1_000), undefined);
});

test('a message holds 128 commands at most', () => {
  const conversation = new Conversation();
  for (let i = 0; i < 130; i++) ask(conversation, {});
  assert.equal(JSON.parse(conversation.next(65_536).text).length, 128);
  assert.equal(JSON.parse(conversation.next(65_536).text).length, 2);
});

test('no message is longer than the server accepts, counted in UTF-8', () => {
  const conversation = new Conversation();
  for (let i = 0; i < 20; i++) ask(conversation, '🦀'.repeat(i));
  const sizes = [];
  for (let message; (message = conversation.next(200)); ) sizes.push(Buffer.byteLength(message.text));
  assert.ok(sizes.length > 5 && sizes.every((size) => size <= 200), String(sizes));
});

test('a command that no message can hold is refused, and those behind it go on', async () => {
  const conversation = new Conversation();
  const refused = assert.rejects(ask(conversation, 'x'.repeat(200)), { name: 'DuplexError', code: 106 });
  ask(conversation, {});
  assert.equal(conversation.next(200).text, '{"id":1,"ping":{}}');
  await refused;
});

test('an answer goes to whoever asked, an error as one', async () => {
  const conversation = new Conversation();
  const [first, second] = [ask(conversation, {}), ask(conversation, {})];
  conversation.next(1_000);
  conversation.answered({ id: 2, error: { code: 103, message: 'not allowed' } });
  conversation.answered({ id: 1, pong: { at: 1 } });
  conversation.answered({ id: 1, pong: { at: 2 } });
  conversation.answered({ id: 9, pong: {} });
  assert.deepEqual(await first, { at: 1 });
  await assert.rejects(second, new DuplexError(103, 'not allowed'));
});

test('a frame of another kind is no answer', async () => {
  const conversation = new Conversation();
  const answer = ask(conversation, {});
  conversation.next(1_000);
  conversation.answered({ id: 1, novelty: {} });
  conversation.answered({ id: 1, pong: { at: 2 } });
  assert.deepEqual(await answer, { at: 2 });
});

test('the introduction comes before what waits, and what is lost with a connection is told', async () => {
  const conversation = new Conversation();
  const waits = ask(conversation, {}, { wait_ms_max: 60_000 });
  const connects = [];
  const introduce = () => connects.push(ask(conversation, {}, { kind: 'connect', answer: 'connected' }));
  assert.equal(conversation.introduce(introduce).text, '{"id":1,"connect":{}}');
  const lost = new DuplexError(114, 'not known');
  conversation.lost(lost);
  await assert.rejects(connects[0], lost);
  assert.equal(conversation.introduce(introduce).text, '{"id":2,"connect":{}}');
  assert.equal(conversation.next(1_000).text, '{"id":3,"ping":{}}');
  conversation.answered({ id: 3, pong: {} });
  conversation.answered({ id: 2, connected: {} });
  await waits;
});

test('of commands that wait there are 256 at most, and a mebibyte', async () => {
  const many = new Conversation();
  for (let i = 0; i < 256; i++) ask(many, {}, { wait_ms_max: 60_000 }).catch(() => {});
  await assert.rejects(ask(many, {}, { wait_ms_max: 60_000 }), { code: 106 });
  many.fail(new DuplexError(108, 'enough'));
  const large = new Conversation();
  for (let i = 0; i < 4; i++) ask(large, 'x'.repeat(250_000), { wait_ms_max: 60_000 }).catch(() => {});
  await assert.rejects(ask(large, 'x'.repeat(250_000), { wait_ms_max: 60_000 }), { code: 106 });
  large.fail(new DuplexError(108, 'enough'));
  await ask(large, 'x'.repeat(250_000), { wait_ms_max: 1 }).catch(({ code }) => assert.equal(code, 108));
});

test('a first message holds what fits, even if its token does not', () => {
  const conversation = new Conversation();
  const token = 'x'.repeat(20_000);
  const first = conversation.introduce(() => {
    ask(conversation, { token }, { kind: 'connect', answer: 'connected' });
    ask(conversation, {});
  });
  assert.equal(JSON.parse(first.text).connect.token, token);
});
