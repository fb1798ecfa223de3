// Three nodes, their Redis and their balancer, which are one program that takes orders; and the processes that play beside them.
import assert from 'node:assert/strict';
import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { freePort } from '../common/gate.mjs';
import { eventually, within } from '../common/hearing.mjs';

const { DUPLEX_CLUSTER } = process.env;
if (!DUPLEX_CLUSTER) throw new Error('set DUPLEX_CLUSTER to the path of the program duplex-cluster, which lies beside the server');

export const KEY = 'a key that only this suite knows';
const START_MS = 60_000;
const ORDER_MS = 60_000;

/** Whoever comes may subscribe; each channel keeps so many publications. */
const config = (size) => `
[auth]
anonymous = true

[api]
keys = ["suite:${KEY}"]

[server]
connections_per_address_max = 20000
connections_per_address_per_second = 1000000
connections_per_address_burst = 1000000

[socketio]
recovery = true

[namespace.default]
allow.subscribe = "anyone"
history.size = ${size}
history.ttl = "10m"
`;

export class Cluster {
  #child;
  #folder;
  #said = '';
  #waiting = [];

  /** A cluster that ends with the test. */
  static async start(t, historySize) {
    const cluster = new Cluster();
    t.after(() => cluster.#stop());
    await cluster.#begin(historySize);
    return cluster;
  }

  async #begin(historySize) {
    this.#folder = await mkdtemp(path.join(tmpdir(), 'duplex-cluster-'));
    const file = path.join(this.#folder, 'duplex.toml');
    await writeFile(file, config(historySize));
    const port = await freePort();
    this.url = `http://127.0.0.1:${port}`;
    const env = { ...process.env, RIGS_CONTROL: '1' };
    this.#child = spawn(DUPLEX_CLUSTER, ['serve', '--listen', `127.0.0.1:${port}`, '--config', file], { env });
    this.#child.stderr.on('data', (piece) => { this.#said += piece; });
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.#hear(line));
    await eventually(async () => {
      if (this.#child.exitCode !== null) return;
      assert.equal((await fetch(`${this.url}/readyz`)).status, 200);
    }, START_MS);
    assert.equal(this.#child.exitCode, null, `it ended at once and said: ${this.#said}`);
  }

  #hear(line) {
    if (!/^(done|no such)/.test(line)) return;
    this.#waiting.shift()?.(line);
  }

  /** Has something done to a node, and waits until it is. */
  async order(words) {
    const answered = new Promise((resolve) => this.#waiting.push(resolve));
    this.#child.stdin.write(`${words}\n`);
    assert.equal(await within(answered, `the order ${words}: ${this.#said}`, ORDER_MS), `done: ${words}`);
  }

  async #stop() {
    if (this.#child?.exitCode === null) {
      const ended = once(this.#child, 'exit');
      this.#child.stdin.end();
      await within(ended, 'the end of the cluster', ORDER_MS);
    }
    if (this.#folder) await rm(this.#folder, { recursive: true });
    assert.doesNotMatch(this.#said, /panicked at/);
  }
}

/** A process that plays a part and answers what it is asked. It ends with the test. */
export class Player {
  #child;
  #answers = [];
  #waiting = [];

  constructor(t, file, part) {
    this.#child = fork(fileURLToPath(new URL(file, import.meta.url)), [JSON.stringify(part)]);
    this.#child.on('message', (answer) => {
      const resolve = this.#waiting.shift();
      if (resolve) resolve(answer);
      else this.#answers.push(answer);
    });
    this.#child.on('exit', (code) => { this.end = code; });
    t.after(() => this.#child.kill('SIGKILL'));
  }

  /** The next thing that it says. */
  async hears(what, deadline_ms) {
    if (this.#answers.length) return this.#answers.shift();
    const answered = new Promise((resolve, reject) => {
      this.#waiting.push(resolve);
      this.#child.once('exit', (code) => reject(new Error(`it ended with ${code} before ${what}`)));
    });
    return within(answered, what, deadline_ms);
  }

  /** Asks it and waits for the answer. */
  ask(question, deadline_ms = 60_000) {
    this.#child.send(question);
    return this.hears(`the answer to ${question}`, deadline_ms);
  }
}
