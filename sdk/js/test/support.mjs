// What the tests have in common: a client of a scripted server that is in a hurry, and something to wait with.
import { Client } from '../dist/index.js';
import { Server } from './server.mjs';

/** Short, so that no test waits for long. */
export const HURRY = { open: 100, openMax: 400, attach: 60, answer: 150, acknowledge: 40, backoff: 5, backoffMax: 20 };
const PATIENCE_MS = 5_000;

/** Runs `story` with a server, and a way to make clients of it; everything is closed behind it. */
export async function withServer(story) {
  const server = await new Server().listen();
  const clients = [];
  const client = (options = {}) => {
    const { times, WebSocket = server.WebSocket, ...rest } = options;
    const made = new Client(server.url, { WebSocket, times: { ...HURRY, ...times }, ...rest });
    clients.push(made);
    return made;
  };
  try {
    await story(server, client);
  } finally {
    for (const each of clients) each.close();
    server.close();
  }
}

/** The next time that `emitter` tells of `name`, and `check` likes it. */
export function next(emitter, name, check = () => true) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`nothing was told of ${name}`)), PATIENCE_MS);
    const off = emitter.on(name, (value) => {
      if (!check(value)) return;
      off();
      clearTimeout(timer);
      resolve(value);
    });
  });
}

export async function eventually(check) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!check()) {
    if (Date.now() > deadline) throw new Error(`never true: ${check}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** What a subscription brings from now on, each publication as its data. */
export function listen(subscription) {
  const heard = [];
  subscription.on('publication', ({ data }) => heard.push(data));
  return heard;
}
