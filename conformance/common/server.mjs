// The server that the runner started, and servers of a test's own, which can be stopped, killed and started again on their port.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { freePort } from './gate.mjs';
import { eventually, within } from './hearing.mjs';

const { DUPLEX_URL, DUPLEX_PROGRAM } = process.env;
if (!DUPLEX_URL) throw new Error('set DUPLEX_URL to the address of a running server');
if (!DUPLEX_PROGRAM) throw new Error('set DUPLEX_PROGRAM to the path of the server program');

/** A server in dev mode with default options, for whoever needs nothing else. */
export const shared = DUPLEX_URL.replace(/\/$/, '');

/** How many nodes there are behind each address. */
export const nodes = Number(process.env.DUPLEX_NODES ?? 1);

export const SECRET = 'a secret that is long enough for everybody';
const KEY = 'a key that only this suite knows';

/** A server that is open to nobody without a token or key. */
export const CLOSED = `
[auth]
hmac_secret = "${SECRET}"

[api]
keys = ["suite:${KEY}"]

[drain]
spread = "100ms"

[namespace.default]
allow.subscribe = "user"
allow.publish = "user"
allow.history = "user"

[namespace.chat]
allow.subscribe = "user"
allow.publish = "user"
allow.presence = "user"
presence = "announced"

[namespace.private]
`;

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A token (RFC 7519, HS256) for `user`; claims may replace what is usual. */
export function token(user, claims = {}, secret = SECRET) {
  const now = Math.floor(Date.now() / 1000);
  const signed = `${base64url({ alg: 'HS256', typ: 'JWT' })}.${base64url({ sub: user, iat: now, exp: now + 600, ...claims })}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

/** Asks the HTTP API as a backend does: the answer's status and body, without what nodes of a cluster say of themselves. */
export async function api(url, verb, body) {
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${KEY}` };
  const response = await fetch(`${url}/api/v1/${verb}`, { method: 'POST', headers, body: JSON.stringify(body) });
  const { node, nodes, ...answer } = await response.json();
  return { status: response.status, answer };
}

/** Publishes by the HTTP API: the position. */
export async function publish(url, publication) {
  const { status, answer } = await api(url, 'publish', publication);
  assert.equal(status, 200, JSON.stringify(answer));
  return answer;
}

/** Waits until somebody is there, where presence is kept: what is subscribed at connect is so a moment after it. */
export function attended(url, channel) {
  return eventually(async () => assert.equal((await api(url, 'presence', { channel, count: true })).answer.clients, 1));
}

export class Server {
  #child;
  #args;
  #folder;
  #said = '';

  /** A server that ends with the test. `flags` are options by name; `config` is the text of a configuration file. */
  static async of(t, flags, config) {
    const own = new Server();
    t.after(() => own.stop());
    await own.#begin(flags, config);
    return own;
  }

  /** A server that must be stopped. */
  static async launch(flags, config) {
    const own = new Server();
    await own.#begin(flags, config);
    return own;
  }

  async #begin(flags = {}, config = null) {
    this.port = await freePort();
    this.url = `http://127.0.0.1:${this.port}`;
    const options = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, `${value}`]);
    this.#args = ['serve', '--listen', `127.0.0.1:${this.port}`, ...options];
    if (config) this.#args.push('--config', await this.#write(config));
    await this.start();
  }

  async #write(config) {
    this.#folder = await mkdtemp(path.join(tmpdir(), 'duplex-conformance-'));
    const file = path.join(this.#folder, 'duplex.toml');
    await writeFile(file, config);
    return file;
  }

  /** Starts it again, on the same port. */
  async start() {
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('DUPLEX_')));
    this.#child = spawn(DUPLEX_PROGRAM, this.#args, { stdio: ['ignore', 'pipe', 'pipe'], env });
    for (const output of [this.#child.stdout, this.#child.stderr]) output.on('data', (piece) => { this.#said += piece; });
    await eventually(async () => {
      if (this.#isOver()) return;
      assert.equal((await fetch(`${this.url}/readyz`)).status, 200);
    });
    assert.ok(!this.#isOver(), `it ended at once and said: ${this.#said}`);
  }

  /** Ends it: SIGTERM drains, SIGKILL comes without a word. */
  async end(signal) {
    if (!this.#child || this.#isOver()) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill(signal);
    // A node that drains lets polls of other nodes' clients be answered, and one may drain after the other.
    await within(ended, `the server's end after ${signal}`, 60_000);
  }

  async stop() {
    await this.end('SIGKILL');
    if (this.#folder) await rm(this.#folder, { recursive: true });
    assert.doesNotMatch(this.#said, /panicked at/);
  }

  #isOver() {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }
}
