// A relay in front of a server, so that a test can take the network away and give it back.
import net from 'node:net';

export class Gate {
  #target;
  #relay = net.createServer((inner) => this.#accept(inner));
  #sockets = new Set();
  #shut = false;

  /** `target` is the server's URL. */
  constructor(target) {
    this.#target = new URL(target);
  }

  /** The URL of the way through the gate. */
  async listen() {
    await new Promise((resolve) => this.#relay.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${this.#relay.address().port}`;
  }

  /** Breaks what is connected, and whatever comes until it is opened. */
  cut() {
    this.#shut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  open() {
    this.#shut = false;
  }

  close() {
    this.cut();
    this.#relay.close();
  }

  #accept(inner) {
    if (this.#shut) return inner.destroy();
    const outer = net.connect({ host: this.#target.hostname, port: this.#target.port });
    const end = () => [inner, outer].forEach((socket) => socket.destroy() && this.#sockets.delete(socket));
    for (const socket of [inner, outer]) {
      this.#sockets.add(socket);
      socket.on('error', end).on('close', end);
    }
    inner.pipe(outer).pipe(inner);
  }
}
