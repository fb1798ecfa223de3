// What is played on: a server of a test's own that can be restarted and killed, with tokens and an API key unless it is told otherwise.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import { fileURLToPath } from 'node:url';
import { freePort } from '../common/gate.mjs';
import { eventually } from './window.mjs';

// These stand in server.toml, too.
const SECRET = 'a secret that only the scenarios know';
const KEY = 'a key that only the scenarios know';
const CONFIG = fileURLToPath(new URL('../scenarios/server.toml', import.meta.url));

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A token for `user` that is good for so many seconds. */
export function token(user, seconds) {
  const now = Date.now() / 1000;
  const signed = `${base64url({ alg: 'HS256', typ: 'JWT' })}.${base64url({ sub: user, iat: Math.floor(now), exp: now + seconds })}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

export class Server {
  #child;

  static async start(program, options = ['--config', CONFIG]) {
    const own = new Server();
    Object.assign(own, { program, options });
    own.port = await freePort();
    own.url = `http://127.0.0.1:${own.port}`;
    await own.#run();
    return own;
  }

  async #run() {
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('DUPLEX_')));
    this.#child = spawn(this.program, ['serve', ...this.options, '--listen', `127.0.0.1:${this.port}`], { stdio: 'ignore', env });
    await eventually(async () => assert.equal((await fetch(`${this.url}/readyz`)).status, 200));
  }

  async #end(signal) {
    const ended = once(this.#child, 'exit');
    this.#child.kill(signal);
    await ended;
  }

  async restart(signal) {
    await this.#end(signal);
    await this.#run();
  }

  stop() {
    return this.#end('SIGKILL');
  }

  /** Asks the HTTP API as a backend does. */
  async api(path, body) {
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${KEY}` };
    const response = await fetch(`${this.url}/api/v1/${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
    const answer = await response.json();
    assert.equal(response.status, 200, JSON.stringify(answer));
    return answer;
  }
}

/** The origin of an empty page that is served by somebody else. */
export async function elsewhere(t) {
  const site = http.createServer((_, response) => response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end('<!doctype html>'));
  t.after(() => site.close());
  site.listen(0, '127.0.0.1');
  await once(site, 'listening');
  return `http://127.0.0.1:${site.address().port}`;
}
