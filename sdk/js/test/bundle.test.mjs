// What the server brings to browsers, in the worlds they are loaded into.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import vm from 'node:vm';
import { withServer } from './support.mjs';

const file = (path) => readFileSync(new URL(path, import.meta.url), 'utf8');
const FETCHES = { fetch, AbortController, AbortSignal, TextDecoder, TextEncoder, URL, performance, setTimeout, clearTimeout, queueMicrotask };

test('a classic script has one global, and needs neither window nor document', () => withServer(async (server) => {
  const world = vm.createContext({ ...FETCHES });
  vm.runInContext(file('../dist/duplex.js'), world);
  const { Client, DuplexError } = world.Duplex;
  assert.deepEqual(Object.keys(world).filter((name) => !(name in FETCHES)), ['Duplex']);
  const own = new Client(server.url);
  assert.equal((await own.publish('news', 1)).offset, 1);
  own.close();
  await assert.rejects(own.ping(), (error) => error instanceof DuplexError);
}));

test('a page needs no address, and neither does a worker', async () => {
  const opened = [];
  class WebSocket {
    constructor(url) { opened.push(url); }
    close() {}
  }
  const location = new URL('https://app.example/chat?room=1');
  const world = vm.createContext({ ...FETCHES, WebSocket, location });
  vm.runInContext(file('../dist/duplex.js'), world);
  for (const url of [undefined, '/duplex/']) {
    const own = new world.Duplex.Client(url);
    own.connect();
    await new Promise(setImmediate);
    own.close();
  }
  assert.deepEqual(opened, ['wss://app.example/ws', 'wss://app.example/duplex/ws']);
});

test('the module exports the same', async () => {
  const [bundle, modules] = [await import('../dist/duplex.mjs'), await import('../dist/index.js')];
  assert.deepEqual(Object.keys(bundle), Object.keys(modules));
});

test('what the server brings is what was built', () => {
  for (const name of ['duplex.js', 'duplex.mjs']) assert.equal(file(`../../../crates/server/assets/${name}`), file(`../dist/${name}`));
});
