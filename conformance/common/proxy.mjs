// HTTP proxies as they stand between people and servers: none lets a WebSocket through, and each does some harm of its own.
import http from 'node:http';
import { once } from 'node:events';

export class Proxy {
  #target;
  #sockets = new Set();
  #server = http.createServer((request, response) => this.#forward(request, response));
  // Whoever refuses upgrades answers; whoever allows them relays.
  upgrades = false;

  /** `buffers`: a response is passed on when it is complete. `idle_ms`: a connection on which nothing passes for so long is cut. */
  constructor(target, { buffers = false, idle_ms = 0 } = {}) {
    this.#target = new URL(target);
    Object.assign(this, { buffers, idle_ms });
    this.#server.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
    this.#server.on('connection', (socket) => this.#watch(socket));
  }

  async listen() {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  /** Resets everything that is connected. */
  breakAll() {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  close() {
    this.breakAll();
    this.#server.close();
  }

  #watch(socket) {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket)).on('error', () => {});
    if (this.idle_ms) socket.setTimeout(this.idle_ms, () => socket.destroy());
  }

  #options({ method, url: path, headers }) {
    const { hostname, port } = this.#target;
    return { hostname, port, method, path, headers, agent: false };
  }

  #forward(request, response) {
    const onward = http.request(this.#options(request));
    const end = () => (onward.destroy(), response.destroy());
    onward.on('error', end);
    request.on('error', end).pipe(onward);
    response.on('close', () => onward.destroy());
    onward.on('response', (answer) => {
      answer.on('error', end);
      if (!this.buffers) return answer.pipe(response.writeHead(answer.statusCode, answer.headers));
      const whole = [];
      answer.on('data', (piece) => whole.push(piece));
      answer.on('end', () => response.writeHead(answer.statusCode, answer.headers).end(Buffer.concat(whole)));
    });
  }

  #upgrade(request, socket, head) {
    if (!this.upgrades) return socket.end('HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n\r\n');
    const onward = http.request(this.#options(request));
    onward.on('error', () => socket.destroy()).end();
    onward.on('upgrade', (answer, outer, early) => {
      const fields = Object.entries(answer.headers).map(([name, value]) => `${name}: ${value}\r\n`);
      socket.write(`HTTP/1.1 101 Switching Protocols\r\n${fields.join('')}\r\n`);
      socket.write(early);
      outer.write(head);
      outer.on('error', () => socket.destroy()).pipe(socket).pipe(outer);
      socket.on('close', () => outer.destroy());
    });
  }
}
