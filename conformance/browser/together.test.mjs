// One page, one channel: a Socket.IO client, a plain WebSocket, an EventSource, and curl beside it see the same in the same order.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { after, before, test } from 'node:test';

const { DUPLEX_URL, CHROMIUM = '/usr/bin/chromium' } = process.env;
if (!existsSync(CHROMIUM)) {
  console.log(`SKIP: the browser test needs Chromium, and there is none at ${CHROMIUM}`);
  process.exit(0);
}
if (!DUPLEX_URL) throw new Error('set DUPLEX_URL to the address of a running server');
const { Player } = await import('./player.mjs');
const { Browser, eventually } = await import('./window.mjs');

const url = DUPLEX_URL.replace(/\/$/, '');
const hasCurl = spawnSync('curl', ['--version']).status === 0;
const EACH = 100;
let browser;

before(async () => { browser = await Browser.launch(CHROMIUM); });
after(() => browser.close());

/** Runs in the page: three clients that note what they get as `event: data`, and three ways to publish. */
async function gather(channel) {
  const heard = { socketio: [], websocket: [], eventsource: [] };
  // JSON has no bytes: who is told by JSON gets them as base64.
  const line = (event, data) => `${event}: ${data instanceof ArrayBuffer ? btoa(String.fromCharCode(...new Uint8Array(data))) : data}`;
  const socket = io(location.origin, { transports: ['polling', 'websocket'] });
  socket.onAny((event, data) => heard.socketio.push(line(event, data)));
  const query = `channels=${encodeURIComponent(channel)}`;
  const plain = new WebSocket(`${location.origin.replace('http', 'ws')}/ws?${query}`);
  const answered = new Map();
  const subscribed = new Promise((resolve) => plain.addEventListener('message', ({ data }) => {
    const frame = JSON.parse(data);
    if (frame.publication) heard.websocket.push(line(frame.publication.event ?? 'message', frame.publication.data));
    else if (frame.subscribed) resolve();
    else answered.get(frame.id)?.(frame);
  }));
  const events = new EventSource(`/sse?${query}`);
  for (const event of ['message', 'reading']) {
    events.addEventListener(event, ({ data }) => heard.eventsource.push(line(event, JSON.parse(data).data)));
  }
  const streams = new Promise((resolve) => events.addEventListener('$subscribed', resolve));
  await Promise.all([socket.timeout(10_000).emitWithAck('$subscribe', channel), subscribed, streams]);
  window.together = {
    heard,
    transport: () => socket.io.engine.transport.name,
    publish: {
      async api(data, event) {
        const body = JSON.stringify({ channel, data, event });
        const { status } = await fetch('/api/v1/publish', { method: 'POST', body });
        if (status !== 200) throw new Error(`the API says ${status}`);
      },
      // Every fifth is bytes.
      socketio(data, event, i) {
        const own = i % 5 ? data : new TextEncoder().encode(data);
        return socket.timeout(10_000).emitWithAck('$publish', channel, event, own);
      },
      native(data, event, i) {
        const id = i + 1;
        plain.send(JSON.stringify({ id, publish: { channel, event, data } }));
        return new Promise((resolve) => answered.set(id, resolve));
      },
    },
  };
}

/** Runs in the page: publishes one after the other, three ways at once. */
function publishAll(each) {
  const ways = Object.entries(window.together.publish).map(async ([way, publish]) => {
    for (let i = 0; i < each; i += 1) await publish(`${way} ${i}`, i % 3 ? 'message' : 'reading', i);
  });
  return Promise.all(ways).then(() => {});
}

/** What curl was told, as the clients in the page note it. */
function curl(t, channel) {
  const child = spawn('curl', ['-sSN', '--max-time', '120', `${url}/sse?channels=${encodeURIComponent(channel)}`]);
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

test('a Socket.IO client, a WebSocket, an EventSource and curl see what each of them and the backend publish, in the same order', { skip: !hasCurl && 'no curl' }, async (t) => {
  const channel = `room-${randomUUID()}`;
  const context = await browser.chromium.createBrowserContext();
  t.after(() => context.close());
  const page = await context.newPage();
  await page.goto(`${url}/healthz`);
  await page.addScriptTag({ content: Player.bundles[0] });
  await page.evaluate(gather, channel);
  const byCurl = curl(t, channel);
  await eventually(() => assert.deepEqual(byCurl.greetings(), ['$subscribed']));
  await page.evaluate(publishAll, EACH);
  const heard = async () => ({ ...await page.evaluate(() => window.together.heard), curl: byCurl.publications() });
  await eventually(async () => {
    for (const [who, lines] of Object.entries(await heard())) assert.ok(lines.length >= 3 * EACH, `${who} has ${lines.length} of ${3 * EACH}`);
  });
  const { websocket, ...others } = await heard();
  const encoded = (way, i) => (way === 'socketio' && i % 5 === 0 ? btoa(`${way} ${i}`) : `${way} ${i}`);
  const ways = ['api', 'socketio', 'native'];
  const sent = ways.flatMap((way) => Array.from({ length: EACH }, (_, i) => `${i % 3 ? 'message' : 'reading'}: ${encoded(way, i)}`));
  assert.deepEqual(websocket.toSorted(), sent.toSorted(), 'each once');
  for (const [who, lines] of Object.entries(others)) assert.deepEqual(lines, websocket, `${who} and the WebSocket`);
  await eventually(async () => assert.equal(await page.evaluate(() => window.together.transport()), 'websocket'));
  // They did publish at the same time: each began before another ended.
  const place = (way, i) => websocket.findIndex((line) => line.endsWith(`: ${way} ${i}`));
  const begun = Math.max(...ways.map((way) => place(way, 1)));
  const ended = Math.min(...ways.map((way) => place(way, EACH - 1)));
  assert.ok(begun < ended, websocket.join('\n'));
});
