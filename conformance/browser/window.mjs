// A browser window with the page in it: what a visitor does and sees.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import puppeteer from 'puppeteer-core';

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const PATIENCE_MS = 20_000;
// What the browser itself reports while the network is away; no page can keep it from that.
const UNREACHABLE = /net::ERR_|WebSocket connection to/;
// Before several nodes there is a balancer, which answers 502 or 503 where none is, and to pages of other origins no more than that.
const UNAVAILABLE = /net::ERR_|WebSocket connection to|with a status of 50[23]|blocked by CORS policy/;
const OUTAGE = Number(process.env.DUPLEX_NODES ?? 1) > 1 ? UNAVAILABLE : UNREACHABLE;

/** Tries until `check` no longer throws; the last failure is the message. */
export async function eventually(check, patience_ms = PATIENCE_MS) {
  const deadline = Date.now() + patience_ms;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await wait(50);
    }
  }
}

export class Browser {
  static async launch(executablePath) {
    const profile = await mkdtemp(join(tmpdir(), 'duplex-browser-'));
    const own = new Browser();
    own.profile = profile;
    own.chromium = await puppeteer.launch({ executablePath, userDataDir: profile, args: FLAGS });
    return own;
  }

  async close() {
    await this.chromium.close();
    await rm(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }

  /** A window of its own, without anything shared with the others, on the page of `url`, live. */
  async open(url, { channel, name, ...options } = {}) {
    const own = await this.visit(channel === undefined ? url : `${url}/?channel=${encodeURIComponent(channel)}`, options);
    await own.live();
    if (name) await own.rename(name);
    return own;
  }

  /** The same on any page. */
  async visit(url, { width = 1280, height = 800, scheme = 'light', expectsOutage = false } = {}) {
    const context = await this.chromium.createBrowserContext();
    const page = await context.newPage();
    const own = new Window(context, page);
    own.expectsOutage = expectsOutage;
    await page.setViewport({ width, height });
    await own.scheme(scheme);
    await page.evaluateOnNewDocument(keepSockets);
    await page.evaluateOnNewDocument(noteLive);
    await page.goto(url);
    return own;
  }
}

// Runs in the page: the tests reach its sockets to say what the page itself never says.
function keepSockets() {
  window.sockets = [];
  window.WebSocket = class extends WebSocket {
    constructor(...args) {
      super(...args);
      window.sockets.push(this);
    }
  };
}

// Runs in the page: how long it took from being there to being live.
function noteLive() {
  const looking = setInterval(() => {
    const state = document.getElementById('state')?.textContent;
    if (state) window.there_ms ??= performance.now();
    if (state !== 'Live') return;
    window.live_ms = performance.now() - window.there_ms;
    clearInterval(looking);
  }, 10);
}

export class Window {
  complaints = [];
  logged = [];
  expectsOutage = false;

  constructor(context, page) {
    this.context = context;
    this.page = page;
    page.on('pageerror', (error) => this.complaints.push(String(error)));
    page.on('console', (message) => this.#heard(message.type(), message.text()));
  }

  #heard(type, text) {
    if (type === 'log') this.logged.push(text);
    else if (!(this.expectsOutage && OUTAGE.test(text))) this.complaints.push(`${type}: ${text}`);
  }

  /** Closes the window, which must have had nothing to complain about. */
  async close() {
    await this.context.close();
    assert.deepEqual(this.complaints, []);
  }

  text(selector) {
    return this.page.$eval(selector, (element) => element.textContent);
  }

  value(selector) {
    return this.page.$eval(selector, (element) => element.value);
  }

  live() {
    return eventually(async () => assert.equal(await this.text('#state'), 'Live'));
  }

  async type(selector, text) {
    await this.page.click(selector, { count: 3 });
    await this.page.type(selector, text);
    await this.page.keyboard.press('Enter');
  }

  rename(name) {
    return this.type('#name', name);
  }

  say(text) {
    return this.type('#text', text);
  }

  /** The conversation as `who: text`, `you` marked; notes as `-- text`; other events than `message` as `who [event]: text`. */
  conversation() {
    return this.page.$$eval('#log > *', (lines) => lines.map((line) => {
      const part = (name) => line.querySelector(`.${name}`)?.textContent;
      if (line.matches('.note')) return `-- ${line.textContent}`;
      const event = part('event') === 'message' ? '' : ` [${part('event')}]`;
      return `${part('who')}${part('you') ? ' (you)' : ''}${event}: ${part('text')}`;
    }));
  }

  reads(...lines) {
    return eventually(async () => assert.deepEqual(await this.conversation(), lines));
  }

  /** The data of the events that came through EventSource. */
  events() {
    return this.page.$$eval('#stream .wire', (events) => events.map((event) => JSON.parse(event.lastChild.lastChild.data).data));
  }

  listens() {
    return eventually(async () => assert.match(await this.text('#stream-state'), /^Listening/));
  }

  /** Light or dark, and without motion, so that a picture never shows something half on its way. */
  scheme(value) {
    return this.page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value }, { name: 'prefers-reduced-motion', value: 'reduce' }]);
  }

  /** Neither the page nor a part of it scrolls sideways. */
  async fits() {
    const wide = await this.page.$$eval('html, .feed, pre', (all) => all
      .filter(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth)
      .map(({ tagName, id, scrollWidth, clientWidth }) => `${tagName}#${id} wants ${scrollWidth} px and has ${clientWidth}`));
    assert.deepEqual(wide, []);
  }

  /** Sends text on the page's own socket, past the page. */
  sendRaw(text) {
    return this.page.evaluate((raw) => window.sockets.at(-1).send(raw), text);
  }
}
