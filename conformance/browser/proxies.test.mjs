// The page, and the client in it, behind proxies that let no WebSocket through: it keeps working, and nothing is lost or doubled.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { Proxy } from '../common/proxy.mjs';

const { DUPLEX_URL, CHROMIUM = '/usr/bin/chromium' } = process.env;
if (!existsSync(CHROMIUM)) {
  console.log(`SKIP: the browser test needs Chromium, and there is none at ${CHROMIUM}`);
  process.exit(0);
}
if (!DUPLEX_URL) throw new Error('set DUPLEX_URL to the address of a running server');
const { Browser, eventually } = await import('./window.mjs');

const url = DUPLEX_URL.replace(/\/$/, '');
const sdk = readFileSync(new URL('../../crates/server/assets/duplex.js', import.meta.url), 'utf8');
const IDLE_MS = 30_000;
let browser;

async function publish(channel, data) {
  const body = JSON.stringify({ channel, data });
  const response = await fetch(`${url}/api/v1/publish`, { method: 'POST', body });
  assert.equal(response.status, 200, await response.text());
}

async function behind(t, options) {
  const proxy = new Proxy(url, options);
  const address = await proxy.listen();
  t.after(() => proxy.close());
  return { proxy, address };
}

/** The page behind a proxy, and what carries it. */
async function visit(t, address, channel) {
  const visitor = await browser.open(address, { channel, name: 'Ada', expectsOutage: true });
  const live_ms = await visitor.page.evaluate(() => window.live_ms);
  const transport = await visitor.text('#transport');
  t.diagnostic(`live over ${transport} ${(live_ms / 1000).toFixed(2)} s after the page was there`);
  return { visitor, transport };
}

/** Says and hears things while all connections break again and again. */
async function converse(visitor, proxy, channel) {
  const expected = [];
  for (let round = 1; round <= 5; round += 1) {
    await visitor.say(`said ${round}`);
    await publish(channel, `published ${round}`);
    await eventually(async () => assert.equal((await heard(visitor)).length, 2 * round));
    expected.push(`Ada (you): said ${round}`, `backend: published ${round}`);
    proxy.breakAll();
  }
  assert.deepEqual((await heard(visitor)).sort(), expected.sort());
}

const heard = async (visitor) => (await visitor.conversation()).filter((line) => !line.startsWith('--'));

describe('behind a proxy', { concurrency: 2 }, () => {
  before(async () => { browser = await Browser.launch(CHROMIUM); });
  after(() => browser.close());

  // It waits most of its time, so the others are played meanwhile.
  test('that cuts idle connections, the page stays live without a break', async (t) => {
    const { address } = await behind(t, { idle_ms: IDLE_MS });
    const channel = `room-${randomUUID()}`;
    const { visitor } = await visit(t, address, channel);
    await visitor.page.evaluate(() => {
      window.lost = 0;
      client.on('disconnected', () => { window.lost += 1; });
      // So that nothing but heartbeats passes.
      Object.defineProperty(document, 'hidden', { value: true });
    });
    await wait(IDLE_MS + 5_000);
    await publish(channel, 'after a long silence');
    await visitor.reads('backend: after a long silence');
    assert.equal(await visitor.page.evaluate(() => window.lost), 0);
    await visitor.close();
  });

  test('that refuses upgrades, the page goes on with events', async (t) => {
    const { proxy, address } = await behind(t, {});
    const channel = `room-${randomUUID()}`;
    const { visitor, transport } = await visit(t, address, channel);
    // On a machine that is busy the first response may take longer than the client waits for it.
    assert.match(transport, /^(SSE|HTTP stream)$/);
    await converse(visitor, proxy, channel);
    await visitor.close();
  });

  test('that buffers responses, the page goes on with polls, and remembers that', async (t) => {
    const { proxy, address } = await behind(t, { buffers: true });
    const channel = `room-${randomUUID()}`;
    const { visitor, transport } = await visit(t, address, channel);
    assert.equal(transport, 'Long polling');
    await converse(visitor, proxy, channel);
    await visitor.page.reload();
    await visitor.live();
    assert.equal(await visitor.text('#transport'), 'Long polling');
    await visitor.close();
  });

  for (const [way, options] of [['events', {}], ['polls', { buffers: true }]]) {
    test(`that lets upgrades through at last, ${way} give way to a WebSocket, and each message comes once`, (t) => movesUp(t, options));
  }
});

/** A page at the proxy's address with a client that soon looks for a better transport, and notes what it gets. */
async function client(t, address, channel) {
  const context = await browser.chromium.createBrowserContext();
  t.after(() => context.close());
  const page = await context.newPage();
  await page.goto(`${address}/healthz`);
  await page.addScriptTag({ content: sdk });
  await page.evaluate((name) => {
    window.note = { got: [], ways: [], lost: 0 };
    const own = new Duplex.Client(location.origin, { times: { upgrade: 300 } });
    own.on('transport', (transport) => window.note.ways.push(transport));
    own.on('disconnected', () => { window.note.lost += 1; });
    own.subscribe(name).on('publication', ({ data }) => window.note.got.push(data));
    window.say = (data) => own.publish(name, data).then(() => {});
  }, channel);
  return { say: (data) => page.evaluate((said) => window.say(said), data), note: () => page.evaluate(() => window.note) };
}

async function movesUp(t, options) {
  const { proxy, address } = await behind(t, options);
  const channel = `room-${randomUUID()}`;
  const { say, note } = await client(t, address, channel);
  await eventually(async () => assert.ok((await note()).ways.length > 0));
  const expected = [];
  const flow = async (count) => {
    for (let i = 0; i < count; i += 1) {
      expected.push(expected.length);
      await (i % 2 ? publish(channel, expected.length - 1) : say(expected.length - 1));
    }
  };
  await flow(20);
  proxy.upgrades = true;
  await eventually(async () => {
    await flow(5);
    assert.equal((await note()).ways.at(-1), 'websocket');
  });
  await flow(20);
  await eventually(async () => assert.deepEqual((await note()).got, expected));
  assert.equal((await note()).lost, 0, 'it moved; it was never disconnected');
}
