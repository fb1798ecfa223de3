// Reads and plays conformance/scenarios/scenarios.txt, where the language is described.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Actor } from './actor.mjs';
import { eventually } from './window.mjs';

/** All scenarios: a title and the lines of each. */
export function scenarios() {
  const text = readFileSync(new URL('../scenarios/scenarios.txt', import.meta.url), 'utf8');
  const [, ...all] = text.split(/^== /m);
  return all.map((each) => {
    const [title, ...lines] = each.split('\n').filter((line) => line.trim());
    return { title, lines };
  });
}

// Hexadecimal digits, so that compression saves half of it at most.
const sized = (bytes, number) => `${number} ${randomBytes(bytes >> 1).toString('hex')}`.slice(0, bytes);

/** `"text"`, `3`, `2 to 9`, `1 to 9 of 100 bytes`, `100 bytes`: the values, and what tells each. */
function values(text) {
  const range = /^(\d+) to (\d+)(?: of (\d+) bytes)?$/.exec(text);
  if (range) {
    const [first, last, bytes] = range.slice(1).map(Number);
    const numbers = Array.from({ length: last - first + 1 }, (_, i) => first + i);
    return bytes ? numbers.map((number) => sized(bytes, number)) : numbers;
  }
  const bytes = /^(\d+) bytes$/.exec(text);
  return [bytes ? 'x'.repeat(Number(bytes[1])) : JSON.parse(text)];
}

export class Play {
  #actors = new Map();
  #ends = new Map();
  #away = 0;

  constructor(stage) {
    Object.assign(this, stage);
  }

  async line(line) {
    const [who, ...rest] = line.split(' ');
    const said = rest.join(' ');
    if (who === 'backend') return this.#backend(said);
    if (who === 'server') return this.#server(said);
    for (const [pattern, act] of VERBS) {
      const match = pattern.exec(said);
      if (match) return act(this, this.#actors.get(who), match.slice(1), who);
    }
    assert.fail(`no such verb: ${line}`);
  }

  async end() {
    for (const actor of this.#actors.values()) await actor.hasNothingMore();
  }

  async leave() {
    for (const actor of this.#actors.values()) await actor.leave();
  }

  async enter(name, seconds) {
    const { browser, server, sdk, transport } = this;
    this.#actors.set(name, await Actor.enter(browser, server, sdk, { name, transport, seconds }));
    this.#ends.set(name, 0);
  }

  away(change) {
    this.#away += change;
  }

  /** The next end that an actor was told of. */
  async isTold(actor, name, code) {
    const seen = this.#ends.get(name);
    await actor.is(({ ends }) => ends.length > seen, 'an end');
    const { ends } = await actor.note();
    assert.equal(ends[seen].code, code, JSON.stringify(ends));
    this.#ends.set(name, seen + 1);
  }

  async stays(actor, name) {
    const { ends, state } = await actor.note();
    assert.deepEqual([ends.slice(this.#ends.get(name)), state], [[], 'connected']);
  }

  #backend(said) {
    const publish = /^publishes (\S+) (.+)$/.exec(said);
    if (publish) return this.#publish(publish[1], values(publish[2]));
    const [, user] = /^revokes (\S+)$/.exec(said);
    return this.server.api('revoke', { user });
  }

  async #publish(channel, all) {
    for (const data of all) await this.server.api('publish', { channel, data });
  }

  #server(said) {
    if (said === 'restarts') return this.server.restart('SIGTERM');
    if (said === 'is killed') return this.server.restart('SIGKILL');
    assert.match(said, /^forgets \S+$/);
    const left = this.#actors.size - this.#away;
    return eventually(async () => assert.equal(await this.#sessions(), left));
  }

  /** On all nodes: whoever is asked knows what the others say. */
  async #sessions() {
    const { sessions, peers = [], silent = [] } = await this.server.api('info', {});
    assert.deepEqual(silent, []);
    return peers.reduce((sum, { info }) => sum + info.sessions, sessions);
  }
}

const recovered = (channel, outcome) => ({ subscribed }) => {
  const all = subscribed.filter((each) => each.channel === channel);
  return all.length > 1 && all.at(-1).recovered === outcome;
};

const VERBS = [
  [/^connects$/, (play, _, __, who) => play.enter(who, 3600)],
  [/^connects with tokens for (\d+) s$/, (play, _, [seconds], who) => play.enter(who, Number(seconds))],
  [/^refreshes (\d+) times$/, (_, actor, [n]) => actor.is(({ refreshes }) => refreshes >= Number(n), 'refreshed')],
  [/^subscribes (\S+)$/, (_, actor, [channel]) => actor.subscribe(channel)],
  [/^publishes (\S+) (.+)$/, async (_, actor, [channel, text]) => {
    for (const value of values(text)) await actor.publish(channel, value);
  }],
  [/^gets (\S+) (.+)$/, (_, actor, [channel, text]) => actor.gets(channel, values(text))],
  [/^reads (\S+) (.+)$/, async (_, actor, [channel, text]) => {
    const expected = values(text);
    assert.deepEqual(await actor.history(channel, expected.length), expected);
  }],
  [/^recovers (\S+)$/, (_, actor, [channel]) => actor.is(recovered(channel, true), `recovered in ${channel}`)],
  [/^loses (\S+)$/, (_, actor, [channel]) => actor.is(recovered(channel, false), `not recovered in ${channel}`)],
  [/^counts (\S+) (\d+)$/, (_, actor, [channel, n]) => eventually(async () => assert.equal(await actor.count(channel), Number(n)))],
  [/^sees (\S+ (?:join|leave) \S+)$/, (_, actor, [what]) => actor.is(({ presence }) => presence.includes(what), what)],
  [/^is cut off$/, (_, actor) => actor.gate.breakAll()],
  [/^goes offline$/, (play, actor) => (play.away(1), actor.gate.cut())],
  [/^comes online$/, (play, actor) => (play.away(-1), actor.gate.open())],
  [/^freezes$/, (play, actor) => (play.away(1), actor.gate.hold())],
  [/^thaws$/, (play, actor) => (play.away(-1), actor.gate.thaw())],
  [/^closes$/, (_, actor) => actor.close()],
  [/^is sent away with (\d+)$/, (play, actor, [code], who) => play.isTold(actor, who, Number(code))],
  [/^is turned out with (\d+)$/, async (play, actor, [code], who) => {
    await play.isTold(actor, who, Number(code));
    await actor.is(({ state }) => state === 'closed', 'closed');
  }],
  [/^stays connected$/, (play, actor, _, who) => play.stays(actor, who)],
];
