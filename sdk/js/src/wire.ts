import type { End, Frame } from './protocol.js';
import { events, lines } from './split.js';

/** One transport while it carries something. After `close` nothing is heard of it. */
export interface Wire {
  /** Absent if messages go up another way. */
  send?(text: string): void;
  /** Bytes that `send` took and the network did not yet. */
  waiting?(): number;
  close(): void;
}

/** What a wire tells. */
export interface Ear {
  opened?(): void;
  /** Bytes came, even if they say nothing. */
  heard(): void;
  frame(frame: Frame, length: number): void;
  /** The last thing; the code is 1000 if a response was complete. */
  ended(end: End): void;
}

/** The constructor of the platform, or of a library that does the same. */
export type WebSocketLike = new (url: string, protocol: string) => WebSocket;

/** The end that nobody gave a reason for. */
export const BROKEN: End = { code: 1006, reason: 'the connection broke' };

export function openSocket(WebSocket: WebSocketLike, url: string, ear: Ear): Wire {
  let socket: WebSocket | undefined;
  const wire = {
    send: (text: string) => socket!.send(text),
    waiting: () => socket!.bufferedAmount,
    close() {
      if (socket) socket.onopen = socket.onmessage = socket.onclose = null;
      socket?.close();
    },
  };
  try {
    socket = new WebSocket(url, 'duplex.v1.json');
  } catch {
    // A page may be forbidden to try.
    queueMicrotask(() => ear.ended(BROKEN));
    return wire;
  }
  socket.onopen = () => ear.opened?.();
  socket.onmessage = ({ data }) => deliver(data, ear, wire);
  socket.onclose = ({ code, reason }) => ear.ended({ code, reason });
  // Some libraries throw errors that nobody listens to; the close says all there is to know.
  socket.onerror = () => {};
  return wire;
}

/** A GET whose response brings frames, each as an event or a line. */
export function openResponse(url: string, form: 'events' | 'lines', ear: Ear): Wire {
  const abort = new AbortController();
  const { signal } = abort;
  const wire = { close: () => abort.abort() };
  const text = (line: string) => line && !signal.aborted && deliver(line, ear, wire);
  const tell = (end: End) => signal.aborted || ear.ended(end);
  read(url, signal, ear, lines(form === 'events' ? events(text) : text)).then(tell, () => tell(BROKEN));
  return wire;
}

function deliver(text: string, ear: Ear, wire: Wire): void {
  let frame: Frame;
  try {
    frame = Object(JSON.parse(text));
  } catch {
    // Someone else than the server answers here.
    wire.close();
    return ear.ended(BROKEN);
  }
  ear.heard();
  ear.frame(frame, text.length);
}

async function read(url: string, signal: AbortSignal, ear: Ear, take: (piece: string) => void): Promise<End> {
  const response = await fetch(url, { signal, cache: 'no-store' });
  if (!response.ok) return answer(response);
  // Where bodies cannot be read while they arrive, polls still work.
  if (!response.body) take(await response.text());
  else await drain(response.body.getReader(), ear, take);
  return { code: 1000, reason: '' };
}

async function drain(reader: ReadableStreamDefaultReader<Uint8Array>, ear: Ear, take: (piece: string) => void) {
  const decoder = new TextDecoder();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    ear.heard();
    take(decoder.decode(value, { stream: true }));
  }
}

/** A POST; the code of the answer is its status, the reason its text. Rejects if there is none in time. */
export async function post(url: string, body: string | null, answer_ms_max: number): Promise<End> {
  const response = await fetch(url, { method: 'POST', body, signal: AbortSignal.timeout(answer_ms_max) });
  return answer(response);
}

async function answer(response: Response): Promise<End> {
  const wait_s = Number(response.headers.get('retry-after'));
  // All who were refused are told the same number.
  const after_ms = wait_s ? wait_s * 1000 * (1 + Math.random() / 4) : undefined;
  return { code: response.status, reason: await response.text(), after_ms };
}
