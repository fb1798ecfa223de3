// DUPLEX_URL=http://127.0.0.1:8000 [CHROMIUM=/usr/bin/chromium] [SCREENSHOTS=directory] node --test conformance/browser/
import assert from 'node:assert/strict';
import { execFile, spawn, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { Gate } from '../common/gate.mjs';

const { DUPLEX_URL, SCREENSHOTS, CHROMIUM = '/usr/bin/chromium' } = process.env;
if (!existsSync(CHROMIUM)) {
  console.log(`SKIP: the browser test needs Chromium, and there is none at ${CHROMIUM}`);
  process.exit(0);
}
if (!DUPLEX_URL) throw new Error('set DUPLEX_URL to the address of a running server');
const { Browser, eventually } = await import('./window.mjs');

const url = DUPLEX_URL.replace(/\/$/, '');
const run = promisify(execFile);
const freshChannel = (name = 'room') => `${name}-${randomUUID().slice(0, 8)}`;
const hasCurl = spawnSync('curl', ['--version']).status === 0;
let browser;

before(async () => { browser = await Browser.launch(CHROMIUM); });
after(() => browser.close());

async function publish(publication) {
  const response = await fetch(`${url}/api/v1/publish`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(publication),
  });
  assert.equal(response.status, 200, await response.text());
}

test('two windows chat, and each sees who said what', async () => {
  const channel = freshChannel();
  const [ada, ben] = [await browser.open(url, { channel, name: 'Ada' }), await browser.open(url, { channel, name: 'Ben' })];
  await ada.say('hello');
  await ben.reads('Ada: hello');
  await ben.say('hello back');
  await ada.reads('Ada (you): hello', 'Ben: hello back');
  await ben.reads('Ada: hello', 'Ben (you): hello back');
  const stamps = (page) => page.$$eval('.offset', (all) => all.map((each) => each.textContent));
  assert.deepEqual(await stamps(ada.page), await stamps(ben.page));
  assert.match(await ada.text('.message time'), /^\d\d:\d\d:\d\d$/);
  await ada.close();
  await ben.close();
});

test('without an address the channel is the lobby, and the round trip becomes a number', async () => {
  const visitor = await browser.open(url);
  assert.equal(await visitor.page.title(), 'Duplex');
  assert.equal(await visitor.value('#channel'), 'lobby');
  await eventually(async () => assert.match(await visitor.text('#rtt'), /^\d+(\.\d)? ms$/));
  await eventually(async () => assert.match(await visitor.page.$eval('#spark .curve', (curve) => curve.getAttribute('d')), /^M.+L/));
  await visitor.close();
});

test('what is published over HTTP is told in every window and through EventSource', async () => {
  const channel = freshChannel();
  const [ada, ben] = [await browser.open(url, { channel }), await browser.open(url, { channel })];
  await ada.listens();
  await publish({ channel, data: 'from the backend' });
  await ada.reads('backend: from the backend');
  await ben.reads('backend: from the backend');
  await eventually(async () => assert.deepEqual(await ada.events(), ['from the backend']));
  await ada.page.click('#stream-on');
  assert.equal(await ada.text('#stream-state'), 'Off');
  await ada.close();
  await ben.close();
});

test('any data is shown as text, never as markup', async () => {
  const channel = freshChannel();
  const visitor = await browser.open(url, { channel });
  const markup = '<img src=x onerror="document.title=1"><script>document.title = 1</script>';
  const cases = [
    [{ data: markup }, `backend: ${markup}`],
    [{ data: 42 }, 'backend: 42'],
    [{ data: null }, 'backend: null'],
    [{ data: { __proto__: null, ['__proto__']: [true], deep: { a: 1 } } }, 'backend: {"__proto__":[true],"deep":{"a":1}}'],
    [{ data: { from: 'Ada', text: 'not a client' } }, 'backend: {"from":"Ada","text":"not a client"}'],
    [{ data: 'x', event: markup }, `backend [${markup}]: x`],
    [{ data: 'x', event: 'error' }, 'backend [error]: x'],
    [{ args: [1, 'two'] }, 'backend: [1,"two"]'],
  ];
  for (const [publication] of cases) await publish({ channel, ...publication });
  await visitor.reads(...cases.map(([, line]) => line));
  assert.equal(await visitor.page.title(), 'Duplex');
  await visitor.close();
});

test('an EventSource learns the names of events from the WebSocket', async () => {
  const channel = freshChannel();
  const visitor = await browser.open(url, { channel });
  await visitor.listens();
  for (const event of ['reading', 'error', 'open']) {
    await publish({ channel, event, data: 'first' });
    await eventually(async () => assert.ok((await visitor.text('#stream-state')).endsWith(event)));
    await publish({ channel, event, data: `second ${event}` });
    await eventually(async () => assert.ok((await visitor.events()).includes(`second ${event}`)));
  }
  await visitor.close();
});

test('another channel is another conversation, and the back button leads back', async () => {
  const [first, second] = [freshChannel(), freshChannel('it’s & odd, 100%')];
  const visitor = await browser.open(url, { channel: first, name: 'Ada' });
  await visitor.say('in the first');
  await visitor.reads('Ada (you): in the first');
  await visitor.type('#channel', second);
  await visitor.say('in the second');
  await visitor.reads('Ada (you): in the second');
  await publish({ channel: first, data: 'not for the second' });
  await publish({ channel: second, data: 'for the second' });
  await visitor.reads('Ada (you): in the second', 'backend: for the second');
  assert.equal(new URL(visitor.page.url()).searchParams.get('channel'), second);
  await visitor.page.goBack();
  await eventually(async () => assert.equal(await visitor.value('#channel'), first));
  await visitor.say('back again');
  await visitor.reads('Ada (you): back again');
  await visitor.close();
});

test('a reload shows the conversation again and loses nothing', async () => {
  const channel = freshChannel();
  const visitor = await browser.open(url, { channel, name: 'Ada' });
  await visitor.say('before');
  await visitor.reads('Ada (you): before');
  const reloaded = visitor.page.reload();
  await publish({ channel, data: 'meanwhile' });
  await reloaded;
  await visitor.live();
  assert.equal(await visitor.value('#name'), 'Ada');
  await visitor.say('after');
  // Whether what came meanwhile was recovered or came live depends on who was faster; that it came once does not.
  await eventually(async () => {
    const [note, ...lines] = await visitor.conversation();
    assert.match(note, /^-- recovered [12] messages?$/);
    assert.deepEqual(lines, ['Ada (you): before', 'backend: meanwhile', 'Ada (you): after']);
  });
  await visitor.close();
});

test('a reload of a long conversation shows the end of it', async () => {
  const channel = freshChannel();
  const visitor = await browser.open(url, { channel });
  for (let i = 1; i <= 150; i += 1) await publish({ channel, data: i });
  await eventually(async () => assert.equal((await visitor.conversation()).at(-1), 'backend: 150'));
  await visitor.page.reload();
  await visitor.live();
  await visitor.reads('-- recovered 50 messages', ...Array.from({ length: 50 }, (_, i) => `backend: ${i + 101}`));
  await visitor.close();
});

test('a lost connection comes back by itself with each missed message once', async (t) => {
  const channel = freshChannel();
  const gate = new Gate(url);
  t.after(() => gate.close());
  const visitor = await browser.open(await gate.listen(), { channel });
  visitor.expectsOutage = true;
  await visitor.page.setViewport({ width: 320, height: 640 });
  await publish({ channel, data: 'one' });
  await visitor.reads('backend: one');
  gate.cut();
  await eventually(async () => assert.match(await visitor.text('#status'), /Reconnecting in \d+ s$/));
  await visitor.fits();
  for (const data of ['two', 'three', 'four']) await publish({ channel, data });
  gate.open();
  await visitor.live();
  await publish({ channel, data: 'five' });
  await eventually(async () => {
    const lines = await visitor.conversation();
    assert.match(lines.splice(1, 1)[0], /^-- recovered [34] messages$/);
    assert.deepEqual(lines, ['one', 'two', 'three', 'four', 'five'].map((data) => `backend: ${data}`));
  });
  await visitor.close();
});

test('a network that went silent is noticed by the ping', async (t) => {
  const channel = freshChannel();
  const gate = new Gate(url);
  t.after(() => gate.close());
  const visitor = await browser.open(await gate.listen(), { channel });
  visitor.expectsOutage = true;
  await eventually(async () => assert.match(await visitor.text('#rtt'), /ms$/));
  await publish({ channel, data: 'one' });
  await visitor.reads('backend: one');
  gate.freeze();
  await publish({ channel, data: 'two' });
  await visitor.reads('backend: one', '-- recovered 1 message', 'backend: two');
  await visitor.close();
});

test('a final close is explained, and only the visitor connects again', async () => {
  const channel = freshChannel();
  const visitor = await browser.open(url, { channel, width: 320, height: 640 });
  await publish({ channel, data: 'one' });
  await visitor.reads('backend: one');
  await visitor.sendRaw('not a command');
  await eventually(async () => assert.match(await visitor.text('#reason'), /\(3501\)/));
  assert.equal(await visitor.text('#state'), 'Closed');
  await visitor.fits();
  await publish({ channel, data: 'two' });
  await visitor.page.click('#again');
  await visitor.live();
  await visitor.reads('backend: one', '-- recovered 1 message', 'backend: two');
  assert.equal(await visitor.page.$eval('#ended', (banner) => banner.hidden), true);
  await visitor.close();
});

test('a command that is refused is told in a line', async () => {
  const visitor = await browser.open(url, { channel: freshChannel() });
  await visitor.sendRaw('{"nonsense":{}}');
  await eventually(async () => assert.match((await visitor.conversation()).join(), /^-- .+ \(10[47]\)$/));
  await visitor.close();
});

test('the commands work as they are copied, however odd the channel', { skip: !hasCurl && 'no curl' }, async (t) => {
  const channel = freshChannel(`it's "100%" a,b & $HOME \`x\` !1 \\n ünï/?+`);
  const visitor = await browser.open(url, { channel });
  const [publishByCurl, listenByCurl, webSocketTool, toType, consoleSocket, consoleEvents] = await visitor.page.$$eval('pre', (all) => all.map((each) => each.textContent));

  await run('sh', ['-c', `${publishByCurl} -fsS`]);
  await visitor.reads('backend: hello from curl');

  const listener = spawn('sh', ['-c', `exec ${listenByCurl} -sS`]);
  t.after(() => listener.kill());
  let heard = '';
  listener.stdout.on('data', (data) => { heard += data; });
  await eventually(async () => {
    await publish({ channel, data: 'to curl' });
    assert.match(heard, /"data":"to curl"/);
  });

  // The shell itself says which address the tool would be given.
  const { stdout: address } = await run('sh', ['-c', `npx() { printf %s "$3"; }; ${webSocketTool}`]);
  await visitor.page.evaluate((to, frame) => {
    const tool = new WebSocket(to);
    tool.onopen = () => tool.send(frame);
  }, address, toType);
  await visitor.page.evaluate(`{ ${consoleSocket} }`);
  await visitor.page.evaluate(`{ ${consoleEvents} }`);
  await eventually(async () => {
    await publish({ channel, data: 'to the console' });
    const lines = (await visitor.conversation()).join('\n');
    assert.match(lines, /^client \w+: hello from wscat$/m);
    assert.match(lines, /^client \w+: hello from the console$/m);
    assert.ok(visitor.logged.some((line) => line.startsWith('{"publication"') && line.includes('to the console')));
    assert.ok(visitor.logged.some((line) => line.includes(`:${channel} {"channel"`) && line.includes('to the console')));
  });
  await visitor.close();
});

test('a command is copied with one click', async () => {
  const visitor = await browser.open(url, { channel: freshChannel(`it's`) });
  await visitor.page.click('.recipe button');
  assert.equal(await visitor.text('.recipe button'), 'Copied');
  await visitor.page.focus('#text');
  await visitor.page.keyboard.down('Control');
  await visitor.page.keyboard.press('KeyV', { commands: ['Paste'] });
  await visitor.page.keyboard.up('Control');
  assert.equal(await visitor.value('#text'), await visitor.text('.recipe pre'));
  await visitor.close();
});

test('the page keeps its last 200 lines', async () => {
  const channel = freshChannel();
  const visitor = await browser.open(url, { channel });
  await visitor.listens();
  for (let i = 1; i <= 230; i += 1) await publish({ channel, data: i });
  await eventually(async () => assert.equal((await visitor.conversation()).at(-1), 'backend: 230'));
  assert.equal((await visitor.conversation()).length, 200);
  await eventually(async () => assert.equal((await visitor.events()).at(-1), 230));
  assert.equal((await visitor.events()).length, 200);
  await visitor.close();
});

for (const width of [320, 390]) {
  test(`nothing is wider than a window of ${width} px`, async () => {
    const channel = freshChannel('w'.repeat(240));
    const visitor = await browser.open(url, { channel, name: 'W'.repeat(40), width, height: 700 });
    await visitor.page.click('#stream-on');
    await visitor.listens();
    await visitor.say('W'.repeat(500));
    await publish({ channel, event: 'e'.repeat(128), data: { ['k'.repeat(300)]: 'v'.repeat(300) } });
    await eventually(async () => assert.equal((await visitor.conversation()).length, 2));
    await visitor.fits();
    await visitor.close();
  });
}

test('screenshots', { skip: !SCREENSHOTS && 'SCREENSHOTS names no directory' }, async () => {
  await mkdir(SCREENSHOTS, { recursive: true });
  const mira = await browser.open(url, { channel: 'lobby', name: 'Mira' });
  const jonas = await browser.open(url, { channel: 'lobby', name: 'Jonas', width: 390, height: 844 });
  await mira.listens();
  await mira.say('Good morning! Is anyone else here?');
  await jonas.say('Me, on the phone. It arrives before I let go of the key.');
  await publish({ channel: 'lobby', data: 'Build 1184 passed in 3 min 12 s' });
  await publish({ channel: 'lobby', event: 'reading', data: { room: 'greenhouse', celsius: 21.4 } });
  await mira.say('That one was a backend over HTTP, and the next is a sensor: same channel, and the EventSource on the right hears them too.');
  await publish({ channel: 'lobby', event: 'reading', data: { room: 'greenhouse', celsius: 21.6 } });
  await jonas.say('And if I walk out of the building?');
  await mira.say('Then you come back and get what you missed, each message once.');
  const samples = (curve) => curve.getAttribute('d').split('L').length;
  for (const { page } of [mira, jonas]) await eventually(async () => assert.ok(await page.$eval('#spark .curve', samples) >= 12));
  for (const scheme of ['light', 'dark']) {
    for (const [window, name] of [[mira, 'desktop'], [jonas, 'phone']]) {
      await window.scheme(scheme);
      await window.page.screenshot({ path: join(SCREENSHOTS, `${name}-${scheme}.png`) });
    }
  }
  await mira.close();
  await jonas.close();
});
