// A client of a scenario, in a page of its own behind a network of its own.
import assert from 'node:assert/strict';
import { Gate } from '../common/gate.mjs';
import { token } from './stage.mjs';
import { eventually } from './window.mjs';

// A numbered text stands for its number, so that a scenario can say `gets news 1 to 200` of both.
const numbered = (value) => (typeof value === 'string' && /^\d+ [0-9a-f]+$/.test(value) ? parseInt(value, 10) : value);

/** Runs in the page: a client that notes all it is told. */
function play({ url, transport, token: first }) {
  const note = { publications: [], subscribed: [], presence: [], ends: [], refreshes: 0, errors: [] };
  let current = first;
  const client = new Duplex.Client(url, {
    transports: [transport],
    token: async ({ reason }) => {
      current = await window.freshToken();
      if (reason === 'refresh') note.refreshes += 1;
      return current;
    },
  });
  client.on('disconnected', (end) => note.ends.push(end));
  client.on('error', (error) => note.errors.push(String(error)));
  window.actor = {
    client,
    note,
    subscribe(channel) {
      const subscription = client.subscribe(channel);
      subscription.on('publication', (publication) => note.publications.push(publication));
      subscription.on('subscribed', (subscribed) => note.subscribed.push({ channel, ...subscribed }));
      subscription.on('joined', (member) => note.presence.push(`${member.user} join ${channel}`));
      subscription.on('left', (member) => note.presence.push(`${member.user} leave ${channel}`));
    },
  };
  return client.connect();
}

export class Actor {
  #taken = new Map();

  static async enter(browser, server, sdk, { name, transport, seconds }) {
    const own = new Actor();
    own.gate = new Gate(server.url);
    const url = await own.gate.listen();
    own.context = await browser.chromium.createBrowserContext();
    own.page = await own.context.newPage();
    await own.page.exposeFunction('freshToken', () => token(name, seconds));
    // Any address of the server's origin does: the page is the actor's.
    await own.page.goto(`${url}/healthz`);
    await own.page.addScriptTag({ content: sdk });
    await own.page.evaluate(play, { url, transport, token: token(name, seconds) });
    await own.is((note) => note.state === 'connected', 'connected');
    return own;
  }

  /** What it was told so far. */
  note() {
    return this.page.evaluate(() => ({ ...window.actor.note, state: window.actor.client.state }));
  }

  is(holds, what) {
    return eventually(async () => {
      const note = await this.note();
      assert.ok(holds(note), `${what}: ${JSON.stringify(note).slice(0, 2000)}`);
    });
  }

  async subscribe(channel) {
    await this.page.evaluate((name) => window.actor.subscribe(name), channel);
    await this.is(({ subscribed }) => subscribed.some((each) => each.channel === channel), `subscribed to ${channel}`);
  }

  publish(channel, value) {
    return this.page.evaluate((...all) => window.actor.client.publish(...all).then(() => {}), channel, value);
  }

  history(channel, limit) {
    return this.page.evaluate(async (name, n) => (await window.actor.client.history(name, { limit: n })).publications.map(({ data }) => data), channel, limit);
  }

  count(channel) {
    return this.page.evaluate(async (name) => (await window.actor.client.presenceStats(name)).clients, channel);
  }

  /** The next publications of a channel must be these: as many as there are, none twice. */
  async gets(channel, values) {
    const before = this.#taken.get(channel) ?? 0;
    this.#taken.set(channel, before + values.length);
    const mine = ({ publications }) => publications.filter((each) => each.channel === channel).map(({ data }) => numbered(data));
    await this.is((note) => mine(note).length >= before + values.length, `${values.length} more publications in ${channel}`);
    const got = mine(await this.note());
    assert.deepEqual(got.slice(before, before + values.length), values);
  }

  /** Nothing came that the scenario did not name. */
  async hasNothingMore() {
    const { publications } = await this.note();
    const taken = [...this.#taken.values()].reduce((sum, each) => sum + each, 0);
    assert.deepEqual(publications.slice(taken).map(({ channel, data }) => `${channel}: ${JSON.stringify(data).slice(0, 80)}`), []);
  }

  close() {
    return this.page.evaluate(() => window.actor.client.close());
  }

  async leave() {
    await this.context.close();
    this.gate.close();
  }
}
