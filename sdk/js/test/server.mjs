// A server of the native protocol, small enough to script: what a network or a proxy may do to it is in its `rules`.
import http from 'node:http';

const HEARTBEAT_MS = 25_000;
const SLOW_MS = 20;

/** What goes wrong. Each may be changed while the server runs. */
const RULES = {
  /** Whether `/ws` opens: `open`, `refused`, `silent`; `mute` if it brings nothing then; `slow` if it takes its time. */
  sockets: 'open',
  /** Holds every response to a GET back until it is complete, as some proxies do. */
  buffers: false,
  /** Answers the paths that end so with this status. */
  refuses: new Map(),
  /** Headers of those answers. */
  headers: {},
  /** How many bytes a response to a GET brings before it breaks. */
  cutAfter: Infinity,
  /** How many POSTs break before they arrive, and how many after. */
  losesPosts: 0,
  losesAnswers: 0,
  /** Fields of `connected`. */
  connected: {},
  /** Channels that the token subscribes everyone to. */
  given: [],
  /** Commands that are not carried out: by kind, the error. */
  errors: new Map(),
  retained_max: 1_000,
};

export class Server {
  rules = { ...RULES, refuses: new Map(), errors: new Map() };
  /** What was asked for, as `GET /session/sse`. */
  requests = [];
  /** Messages and commands as they were carried out. */
  messages = [];
  commands = [];
  sockets = new Set();
  sessions = new Map();
  channels = new Map();
  talks = new Set();
  #http = http.createServer((request, response) => this.#serve(request, response));
  #names = 0;

  async listen() {
    await new Promise((resolve) => this.#http.listen(0, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${this.#http.address().port}`;
    return this;
  }

  close() {
    this.#http.close();
    this.#http.closeAllConnections();
    for (const socket of this.sockets) socket.break();
  }

  /** Everything is forgotten, as after a restart. */
  restart() {
    this.sessions.clear();
    this.#http.closeAllConnections();
    for (const socket of this.sockets) socket.break();
  }

  channel(name) {
    if (!this.channels.has(name)) this.channels.set(name, { epoch: `e${this.channels.size}`, offset: 0, history: [] });
    return this.channels.get(name);
  }

  publish(channel, payload, event = 'message') {
    const state = this.channel(channel);
    const publication = { channel, epoch: state.epoch, offset: ++state.offset, event, ...payload, time: 1 };
    state.history.push(publication);
    for (const talk of this.talks) if (talk.channels.has(channel)) talk.send({ publication });
    return publication;
  }

  name(prefix) {
    return `${prefix}${++this.#names}`;
  }

  /** A WebSocket whose other end is this server. */
  get WebSocket() {
    const server = this;
    return class extends Socket {
      constructor(url) {
        super(server, url);
      }
    };
  }

  async #serve(request, response) {
    const { pathname, searchParams } = new URL(request.url, this.url);
    const [, , id, verb] = pathname.split('/');
    this.requests.push([request.method, id ? verb ?? 'message' : 'session'].join(' '));
    const refusal = [...this.rules.refuses].find(([end]) => `${request.method} ${pathname}`.endsWith(end));
    if (refusal) return response.writeHead(refusal[1], this.rules.headers).end('refused');
    const body = await text(request);
    const lost = request.method === 'POST' && verb !== 'end' && id && this.rules.losesPosts-- > 0;
    if (lost) return response.destroy();
    const session = id === undefined ? new Session(this, searchParams) : this.sessions.get(id);
    if (!session) return response.writeHead(404).end();
    if (request.method === 'POST') this.#up(session, { id, verb, body, searchParams }, response);
    else session.carry(new Response(this.rules, response, verb), Number(searchParams.get('after')));
  }

  #up(session, { id, verb, body, searchParams }, response) {
    if (verb === 'end') session.end();
    else if (id === undefined) return session.open(body, response);
    else session.post(body, searchParams);
    if (verb !== 'end' && this.rules.losesAnswers-- > 0) return response.destroy();
    response.writeHead(204).end();
  }
}

async function text(request) {
  let all = '';
  for await (const piece of request.setEncoding('utf8')) all += piece;
  return all;
}

/** A conversation; `send` takes its frames. */
class Talk {
  channels = new Set();

  constructor(server, send) {
    this.server = server;
    this.send = send;
    server.talks.add(this);
  }

  receive(message) {
    this.server.messages.push(message);
    for (const command of [JSON.parse(message)].flat()) this.#carryOut(command);
  }

  end() {
    this.server.talks.delete(this);
  }

  #carryOut({ id, ...rest }) {
    const [[kind, body]] = Object.entries(rest);
    this.server.commands.push([kind, body]);
    const error = this.server.rules.errors.get(kind);
    if (error) return this.send({ id, error });
    this[kind](id, body);
  }

  connect(id, { since }) {
    const { connected, given } = this.server.rules;
    const client = this.server.name('client');
    const limits = { heartbeat_ms: HEARTBEAT_MS, message_bytes_max: 65_536, subscriptions_max: 128 };
    this.send({ id, connected: { client, version: 'scripted', ...limits, ...connected } });
    for (const channel of given) this.subscribe(undefined, { channel, since: since && new Map(Object.entries(since)).get(channel) });
  }

  subscribe(id, { channel, since }) {
    if (this.channels.has(channel)) return this.send({ id, error: { code: 105, message: 'already' } });
    const { epoch, offset, history } = this.server.channel(channel);
    const recovered = since && since.epoch === epoch;
    this.channels.add(channel);
    this.send({ ...(id && { id }), subscribed: { channel, epoch, offset, ...(since && { recovered }) } });
    if (recovered) for (const publication of history.slice(since.offset)) this.send({ publication });
  }

  unsubscribe(id, { channel }) {
    this.channels.delete(channel);
    this.send({ id, unsubscribed: { channel } });
  }

  publish(id, { channel, event, ...payload }) {
    const { epoch, offset } = this.server.publish(channel, payload, event);
    this.send({ id, published: { channel, epoch, offset } });
  }

  call(id, { data }) {
    if (data !== 'never') this.send({ id, called: { data } });
  }

  history(id, { channel }) {
    const { epoch, offset, history } = this.server.channel(channel);
    this.send({ id, history: { channel, epoch, offset, publications: history } });
  }

  presence(id, { channel }) {
    this.send({ id, presence: { channel, clients: 0, users: 0, members: [] } });
  }

  presence_stats(id, { channel }) {
    this.send({ id, presence_stats: { channel, clients: 0, users: 0 } });
  }

  refresh(id) {
    this.send({ id, refreshed: { expires_in_ms: 3_600_000 } });
  }

  ping(id) {
    this.send({ id, pong: {} });
  }
}

class Session {
  received = 0;
  frames = [];
  forgotten = 0;
  carrier;

  constructor(server, searchParams) {
    this.server = server;
    this.returning = searchParams.get('returning');
    this.id = server.name('S');
    server.sessions.set(this.id, this);
    this.talk = new Talk(server, (frame) => this.#send(frame));
  }

  open(body, response) {
    this.receive(body);
    response.writeHead(200).end(JSON.stringify({ session: this.id, linger_ms: 30_000, retained_bytes_max: 65_536 }));
  }

  post(body, searchParams) {
    const number = Number(searchParams.get('n') ?? this.received + 1);
    if (searchParams.has('after')) this.forget(Number(searchParams.get('after')));
    if (body && number === this.received + 1) this.receive(body);
  }

  receive(body) {
    this.received++;
    this.talk.receive(body);
  }

  forget(after) {
    this.frames.splice(0, after - this.forgotten);
    this.forgotten = Math.max(this.forgotten, after);
  }

  carry(carrier, after) {
    if (after < this.forgotten) {
      this.end();
      return carrier.refuse(410);
    }
    this.carrier?.replace();
    this.carrier = carrier;
    this.forget(after);
    carrier.begin({ attached: { after, received: this.received } }, this.frames);
  }

  end() {
    this.server.sessions.delete(this.id);
    this.talk.end();
    this.carrier?.end();
  }

  #send(frame) {
    this.frames.push(frame);
    while (this.frames.length > this.server.rules.retained_max) this.forget(this.forgotten + 1);
    this.carrier?.bring(frame);
  }
}

/** A response that carries frames down. */
class Response {
  #rules;
  #response;
  #form;
  #attached;
  #begun = false;
  #ended = false;
  #held = '';
  #written = 0;

  constructor(rules, response, form) {
    this.#rules = rules;
    this.#response = response;
    this.#form = form;
  }

  refuse(status) {
    this.#ended = true;
    this.#response.writeHead(status).end();
  }

  begin(attached, frames) {
    this.#attached = attached;
    if (this.#form !== 'poll' || frames.length) this.#answer(frames);
  }

  bring(frame) {
    if (this.#ended) return;
    if (this.#begun) this.#write(frame);
    else this.#answer([frame]);
  }

  replace() {
    if (this.#begun) this.end();
    else this.refuse(409);
  }

  end() {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#held) this.#response.write(this.#held);
    if (this.#written <= this.#rules.cutAfter) this.#response.end();
  }

  #answer(frames) {
    this.#begun = true;
    if (!this.#rules.buffers) this.#response.writeHead(200).flushHeaders();
    for (const frame of [this.#attached, ...frames]) this.#write(frame);
    if (this.#form === 'poll') this.end();
  }

  #write(frame) {
    const json = JSON.stringify(frame);
    const text = this.#form === 'sse' ? `data: ${json}\n\n` : `${json}\n`;
    if (this.#rules.buffers) this.#held += text;
    else this.#pass(Buffer.from(text));
  }

  #pass(bytes) {
    const room = Math.max(this.#rules.cutAfter - this.#written, 0);
    this.#written += bytes.length;
    if (room < bytes.length) this.#ended = true;
    this.#response.write(bytes.subarray(0, room), () => room < bytes.length && this.#response.destroy());
  }
}

/** Both ends of a WebSocket: the client sees what a browser's has, the server the rest. */
class Socket {
  bufferedAmount = 0;
  closed = false;
  frozen = false;

  constructor(server, url) {
    this.server = server;
    const { pathname, search } = new URL(url);
    this.path = pathname + search;
    server.requests.push('WS');
    server.sockets.add(this);
    this.#soon(() => this.#open());
  }

  #soon(then) {
    if (this.server.rules.sockets === 'slow') setTimeout(then, SLOW_MS);
    else setImmediate(then);
  }

  #open() {
    const { sockets } = this.server.rules;
    if (this.closed || sockets === 'silent') return;
    if (sockets === 'refused') return this.break();
    const { searchParams } = new URL(this.path, 'ws://server');
    this.session = this.server.sessions.get(searchParams.get('session'));
    if (searchParams.has('session') && !this.session) return this.finish(1006);
    this.onopen?.();
    if (sockets === 'mute') return;
    if (this.session) this.#soon(() => this.closed || this.session.carry(this, Number(searchParams.get('after'))));
    else this.talk = new Talk(this.server, (frame) => this.bring(frame));
  }

  // What the client does.
  send(message) {
    if (this.frozen || this.closed) return;
    setImmediate(() => this.closed || (this.session ?? this.talk).receive(message));
  }

  close() {
    if (this.closed) return;
    this.#shut();
    this.session?.end();
  }

  // What the server and the network do.
  break() {
    this.finish(1006);
  }

  finish(code, reason = '') {
    if (this.closed) return;
    this.#shut();
    this.onclose?.({ code, reason });
  }

  bring(frame) {
    if (!this.frozen && !this.closed) this.onmessage?.({ data: JSON.stringify(frame) });
  }

  begin(attached, frames) {
    for (const frame of [attached, ...frames]) this.bring(frame);
  }

  refuse() {
    this.finish(1006);
  }

  replace() {
    this.session = undefined;
    this.finish(1000);
  }

  end() {
    this.finish(1000);
  }

  #shut() {
    this.closed = true;
    this.talk?.end();
    this.server.sockets.delete(this);
  }
}
