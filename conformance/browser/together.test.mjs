// One page, one channel: two clients of SignalR, one of Socket.IO, a plain WebSocket, an EventSource, and curl beside them see the same
// in the same order. The page is served by somebody else than the server.
// DUPLEX_PROGRAM=target/debug/duplex [CHROMIUM=/usr/bin/chromium] [SCREENSHOTS=directory] node --test conformance/browser/
import assert from 'node:assert/strict';
import { execFile, spawn, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';

const { DUPLEX_PROGRAM, SCREENSHOTS, CHROMIUM = '/usr/bin/chromium' } = process.env;
if (!existsSync(CHROMIUM)) {
  console.log(`SKIP: the browser test needs Chromium, and there is none at ${CHROMIUM}`);
  process.exit(0);
}
if (!DUPLEX_PROGRAM) throw new Error('set DUPLEX_PROGRAM to the program');
const { Server } = await import('./stage.mjs');
const { address, serve } = await import('./together.mjs');
const { Browser, eventually } = await import('./window.mjs');

const run = promisify(execFile);
const hasCurl = spawnSync('curl', ['--version']).status === 0;
const EACH = 50;
const WAYS = ['signalr', 'messagepack', 'socketio', 'websocket', 'curl'];
let browser, server, site;

before(async () => {
  site = await serve();
  server = await Server.start(DUPLEX_PROGRAM, ['--allow-origin', site.origin]);
  browser = await Browser.launch(CHROMIUM);
});
after(async () => {
  await browser.close();
  await server.stop();
  site.close();
});

/** Runs in the page: publishes one after the other, four ways at once. Every fifth of Socket.IO and of MessagePack is bytes. */
function publishAll(each) {
  const ways = Object.values(window.together).filter(({ publish }) => publish).map(async ({ key, publish }) => {
    for (let i = 0; i < each; i += 1) {
      const text = `${key} ${i}`;
      const data = i % 5 || !['socketio', 'messagepack'].includes(key) ? text : new TextEncoder().encode(text);
      await publish(i % 3 ? 'message' : 'reading', data);
    }
  });
  return Promise.all(ways).then(() => {});
}

/** Publishes as a backend does from a shell, one after the other. */
async function postAll(channel, count) {
  for (let i = 0; i < count; i += 1) {
    const body = JSON.stringify({ channel, data: `curl ${i}`, event: i % 3 ? 'message' : 'reading' });
    await run('curl', ['-sS', '--fail-with-body', '-d', body, `${server.url}/api/v1/publish`]);
  }
}

/** What curl was told, as the clients in the page note it. */
function curl(t, channel) {
  const child = spawn('curl', ['-sSN', '--max-time', '120', `${server.url}/sse?channels=${encodeURIComponent(channel)}`]);
  t.after(() => child.kill());
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (piece) => { text += piece; });
  const events = () => text.split('\n\n').slice(0, -1).flatMap((block) => {
    const field = (name) => block.split('\n').find((each) => each.startsWith(`${name}: `))?.slice(name.length + 2);
    const data = field('data');
    return data ? [{ event: field('event') ?? 'message', data: JSON.parse(data).data }] : [];
  });
  const own = ({ event }) => event.startsWith('$');
  return {
    greetings: () => events().filter(own).map(({ event }) => event),
    publications: () => events().filter((each) => !own(each)).map(({ event, data }) => `${event}: ${data}`),
  };
}

const heard = (window) => window.page.evaluate(() => Object.fromEntries(Object.entries(window.together).map(([key, { heard }]) => [key, heard])));
const says = (window, text) => eventually(async () => assert.equal(await window.text('#same'), text));

test('clients of SignalR and Socket.IO, a WebSocket, an EventSource and curl see what each of them publishes, in the same order', { skip: !hasCurl && 'no curl' }, async (t) => {
  const channel = `room-${randomUUID()}`;
  const window = await browser.visit(address(site.origin, server.url, channel));
  await says(window, 'All the same');
  const byCurl = curl(t, channel);
  await eventually(() => assert.deepEqual(byCurl.greetings(), ['$subscribed']));
  await Promise.all([window.page.evaluate(publishAll, EACH), postAll(channel, EACH)]);
  const everybody = async () => ({ ...await heard(window), curl: byCurl.publications() });
  const all = WAYS.length * EACH;
  await eventually(async () => {
    for (const [who, lines] of Object.entries(await everybody())) assert.ok(lines.length >= all, `${who} has ${lines.length} of ${all}`);
  });
  const { websocket, ...others } = await everybody();
  assert.equal(Object.keys(others).length, 5);
  const encoded = (way, i) => (['socketio', 'messagepack'].includes(way) && i % 5 === 0 ? btoa(`${way} ${i}`) : `${way} ${i}`);
  const sent = WAYS.flatMap((way) => Array.from({ length: EACH }, (_, i) => `${i % 3 ? 'message' : 'reading'}: ${encoded(way, i)}`));
  assert.deepEqual(websocket.toSorted(), sent.toSorted(), 'each once');
  for (const [who, lines] of Object.entries(others)) assert.deepEqual(lines, websocket, `${who} and the WebSocket`);
  await says(window, 'All the same');
  await eventually(async () => assert.equal(await window.page.evaluate(() => window.together.socketio.way.textContent), 'websocket'));
  // They did publish at the same time: each began before another ended.
  const place = (way, i) => websocket.findIndex((line) => line.endsWith(`: ${way} ${i}`));
  const begun = Math.max(...WAYS.map((way) => place(way, 1)));
  const ended = Math.min(...WAYS.map((way) => place(way, EACH - 1)));
  assert.ok(begun < ended, websocket.join('\n'));
  await window.close();
});

test('what a visitor types goes out by the client that was chosen, and comes in everywhere', async () => {
  const window = await browser.visit(address(site.origin, server.url, `room-${randomUUID()}`));
  await says(window, 'All the same');
  for (const [key, text] of [['signalr', 'one'], ['messagepack', 'two <b>'], ['socketio', 'three'], ['websocket', 'four']]) {
    await window.page.select('#through', key);
    await window.say(text);
  }
  const lines = ['message: one', 'message: two <b>', 'message: three', 'message: four'];
  await eventually(async () => {
    for (const [who, got] of Object.entries(await heard(window))) assert.deepEqual(got, lines, who);
  });
  await window.fits();
  await window.close();
});

test('every client comes back when the server has restarted', async (t) => {
  const own = await Server.start(DUPLEX_PROGRAM, ['--allow-origin', site.origin]);
  t.after(() => own.stop());
  const window = await browser.visit(address(site.origin, own.url, 'lobby'), { expectsOutage: true });
  await says(window, 'All the same');
  await own.restart('SIGTERM');
  const arrivals = () => window.page.evaluate(() => Object.values(window.together).map(({ arrivals }) => arrivals));
  // What reached a server that was about to end, socket.io-client gives up after 20 s.
  await eventually(async () => {
    // More often where it came to a node that was about to end, too.
    const times = await arrivals();
    assert.ok(times.length === 5 && times.every((each) => each >= 2), `${times}`);
    assert.equal((await own.api('presence', { channel: 'lobby', count: true })).clients, 5);
  }, 60_000);
  await own.api('publish', { channel: 'lobby', data: 'again' });
  await eventually(async () => {
    for (const [who, got] of Object.entries(await heard(window))) assert.deepEqual(got, ['message: again'], who);
  });
  await window.close();
});

test('the page together, in pictures', { skip: !SCREENSHOTS && 'SCREENSHOTS names no directory' }, async () => {
  await mkdir(SCREENSHOTS, { recursive: true });
  const window = await browser.visit(address(site.origin, server.url, 'lobby'), { width: 1480, height: 900 });
  await says(window, 'All the same');
  await window.page.evaluate(async () => {
    const { signalr, messagepack, socketio, websocket } = window.together;
    await signalr.publish('message', 'Good morning from SignalR');
    await socketio.publish('message', 'and from Socket.IO');
    await websocket.publish('message', { from: 'Mira', text: 'I have only a WebSocket' });
    await messagepack.publish('reading', new Uint8Array([21, 4, 0, 255]));
  });
  await server.api('publish', { channel: 'lobby', data: 'Build 1184 passed in 3 min 12 s' });
  await server.api('publish', { channel: 'lobby', event: 'reading', data: { room: 'greenhouse', celsius: 21.4 } });
  await eventually(async () => assert.equal((await heard(window)).eventsource.length, 6));
  for (const scheme of ['light', 'dark']) {
    await window.scheme(scheme);
    await window.page.screenshot({ path: join(SCREENSHOTS, `together-${scheme}.png`) });
  }
  await window.close();
});
