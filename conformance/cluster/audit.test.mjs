// The nodes of a cluster are killed one after the other while much is published: every client of every protocol gets everything once
// and in order, or is told that it did not. Who publishes, who listens and who judges are processes of their own.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { WAYS } from './clients.mjs';
import { Cluster, KEY, Player } from './cluster.mjs';

const SHORT = { seconds: 10, perSecond: 200, channels: 10, clients: 20, killEvery: 5, kills: 1, shortHistory: 2 };
const LONG = { seconds: 60, perSecond: 1_000, channels: 50, clients: 200, killEvery: 10, kills: 5, shortHistory: 10 };
const SIZES = process.env.DUPLEX_DEPTH === 'full' ? LONG : SHORT;

const NODES = 3;
/** How long a node stays away. */
const AWAY_MS = 1_500;
/** Until everybody has come back and has everything. Who finds nobody tries again after half a minute at the latest. */
const SETTLED_WITHIN_MS = 90_000;

const numbers = (count) => Array.from({ length: count }, (_, number) => number);

class Audit {
  #folder;

  constructor(t, historySize) {
    this.t = t;
    this.keepsAll = historySize > SIZES.seconds * SIZES.perSecond / SIZES.channels;
    this.historySize = historySize;
    this.channels = numbers(SIZES.channels).map((number) => `audit-${number}`);
  }

  async begin() {
    this.#folder = await mkdtemp(path.join(tmpdir(), 'duplex-audit-'));
    this.t.after(() => rm(this.#folder, { recursive: true }));
    this.cluster = await Cluster.start(this.t, this.historySize);
    this.logs = Object.keys(WAYS).map((protocol) => path.join(this.#folder, protocol));
    this.listeners = Object.entries(WAYS).map(([protocol, ways], at) => this.#player('listeners.mjs', {
      protocol, ways, count: SIZES.clients, log: this.logs[at],
    }));
    for (const listener of this.listeners) assert.equal(await listener.hears('its clients are there', 60_000), 'ready');
  }

  #player(file, part) {
    return new Player(this.t, file, { url: this.cluster.url, key: KEY, channels: this.channels, ...part });
  }

  /** Publishes, and meanwhile kills a node every so often and starts it again. */
  async run() {
    const { perSecond, seconds, kills, killEvery } = SIZES;
    this.publisherLog = path.join(this.#folder, 'publisher');
    const publisher = this.#player('publisher.mjs', { perSecond, seconds, log: this.publisherLog });
    const published = publisher.hears('everything is published', seconds * 1_000 + 120_000);
    for (const kill of numbers(kills)) {
      await pause(killEvery * 1_000 - (kill === 0 ? 0 : AWAY_MS));
      await this.cluster.order(`kill ${kill % NODES}`);
      await pause(AWAY_MS);
      await this.cluster.order(`start ${kill % NODES}`);
    }
    return published;
  }

  /** What the auditor says, once nothing is under way any more. */
  async verdict() {
    const end = Date.now() + SETTLED_WITHIN_MS;
    for (;;) {
      for (const listener of this.listeners) await listener.ask('flush');
      const verdict = await this.judge(this.logs);
      const isLost = Object.values(verdict.byLog).some(({ lost }) => lost > 0);
      if (!isLost || Date.now() > end) return verdict;
      await pause(1_000);
    }
  }

  async judge(listeners) {
    const auditor = this.#player('auditor.mjs', { publisher: this.publisherLog, listeners, keepsAll: this.keepsAll });
    return auditor.hears('the verdict', 60_000);
  }

  /** The log of one protocol, with one publication less. */
  async forged(log) {
    const lines = (await readFile(log, 'utf8')).split('\n').filter(Boolean);
    const own = lines.map((line, at) => [at, JSON.parse(line)]).filter(([, [, , kind]]) => kind === 'got');
    lines.splice(own[Math.floor(own.length / 2)][0], 1);
    const forged = `${log}-forged`;
    await writeFile(forged, `${lines.join('\n')}\n`);
    return forged;
  }
}

const sum = (verdict, name) => Object.values(verdict.byLog).reduce((total, one) => total + one[name], 0);

/** What nobody may see, and nobody did. */
function assertFaultless(verdict) {
  for (const name of ['lost', 'doubled', 'disordered', 'strange', 'away']) assert.equal(sum(verdict, name), 0, JSON.stringify(verdict, null, 1));
}

function report(t, published, verdict) {
  const { seconds, kills } = SIZES;
  t.diagnostic(`${published.accepted} publications in ${(published.took_ms / 1_000).toFixed(1)} s (${seconds} s wanted), ${kills} kills`);
  for (const [log, one] of Object.entries(verdict.byLog)) {
    const { clients, got, examples, ...counts } = one;
    t.diagnostic(`${path.basename(log)}: ${clients} clients got ${got}; ${JSON.stringify(counts)}`);
  }
}

test('with all of history, everybody gets everything once and in order', async (t) => {
  const audit = new Audit(t, 100_000);
  await audit.begin();
  const published = await audit.run();
  const verdict = await audit.verdict();
  report(t, published, verdict);
  assertFaultless(verdict);
  const { examples, ...inHistory } = verdict.inHistory;
  assert.deepEqual([inHistory.lost, inHistory.doubled, inHistory.disordered], [0, 0, 0], examples.join('\n'));
  assert.equal(sum(verdict, 'told'), 0, JSON.stringify(verdict, null, 1));
  assert.equal(sum(verdict, 'clients'), SIZES.clients * Object.keys(WAYS).length);
  assert.ok(sum(verdict, 'recovered') > 0, 'nobody had to come back');
  for (const log of audit.logs) {
    const forged = await audit.judge([await audit.forged(log)]);
    assert.equal(sum(forged, 'lost'), 1, `a loss in ${log} is not found`);
  }
});

test('with a short history, whoever misses something is told so', async (t) => {
  const audit = new Audit(t, SIZES.shortHistory);
  await audit.begin();
  const published = await audit.run();
  const verdict = await audit.verdict();
  report(t, published, verdict);
  assertFaultless(verdict);
  assert.ok(sum(verdict, 'told') > 0, 'nobody missed anything');
});
