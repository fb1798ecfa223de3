// A TCP relay in front of the server, so that a test can take the network away and give it back.
import { once } from 'node:events';
import net from 'node:net';

function join([inner, outer]) {
  inner.pipe(outer);
  outer.pipe(inner);
}

/** One that has said its end cannot be reset any more: Node would keep it open for ever. */
function reset(socket) {
  if (socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}

export class Gate {
  #target;
  #relay = net.createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
  #pairs = new Set();
  #state = 'open';

  /** `target` is the server's URL. */
  constructor(target) {
    this.#target = new URL(target);
  }

  /** The URL of the way through the gate. */
  async listen() {
    await new Promise((resolve) => this.#relay.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${this.#relay.address().port}`;
  }

  /** Resets what is connected and whoever tries. */
  cut() {
    this.#state = 'cut';
    this.#drop();
  }

  /** Nothing passes any more, and nobody is told. New connections are passed again. */
  freeze() {
    for (const [inner, outer] of this.#pairs) {
      inner.unpipe(outer);
      outer.unpipe(inner);
    }
  }

  /** Nothing passes any more, of new connections either, until it thaws: nothing is lost. */
  hold() {
    this.#state = 'held';
    this.freeze();
  }

  thaw() {
    this.#state = 'open';
    for (const pair of this.#pairs) join(pair);
  }

  open() {
    this.#state = 'open';
  }

  /** Resets what is connected; whoever tries again gets through. */
  breakAll() {
    this.#drop();
  }

  close() {
    this.#drop();
    this.#relay.close();
  }

  #accept(inner) {
    inner.on('error', () => {});
    if (this.#state === 'cut') return inner.resetAndDestroy();
    const outer = net.connect({ host: this.#target.hostname, port: this.#target.port, allowHalfOpen: true });
    const pair = [inner, outer];
    this.#pairs.add(pair);
    const end = () => {
      this.#pairs.delete(pair);
      inner.destroy();
      outer.destroy();
    };
    for (const socket of pair) socket.on('error', end).on('close', end);
    if (this.#state === 'open') join(pair);
  }

  #drop() {
    for (const pair of [...this.#pairs]) for (const socket of pair) reset(socket);
  }
}

/** A port that nothing listens on. */
export async function freePort() {
  const probe = net.createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}
