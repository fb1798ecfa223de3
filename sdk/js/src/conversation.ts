import { DuplexError, LIMIT_EXCEEDED, NOT_AVAILABLE } from './error.js';
import type { Frame, Message } from './protocol.js';

const COMMANDS_MAX = 128;
const WAITING_COMMANDS_MAX = 256;
const WAITING_BYTES_MAX = 1 << 20;
/** Of `{"id":9007199254740991,` and a comma behind the command. */
const ID_BYTES = 25;
const BRACKETS_BYTES = 2;
/** A server takes no longer message before it knows the client. */
const FIRST_BYTES_MAX = 16 * 1024;

/** A command and who waits for its answer. */
export interface Command {
  kind: string;
  /** The kind of the frame that answers it. */
  answer: string;
  body: unknown;
  resolve(answer: any): void;
  reject(error: unknown): void;
  /** How long it may wait to be sent; without it, it belongs to this connection and ends with it. */
  wait_ms_max?: number | undefined;
}

interface Waiting extends Command {
  text: string;
  bytes: number;
  timer: ReturnType<typeof setTimeout> | undefined;
}

const bytes = (text: string): number => new TextEncoder().encode(text).length;

/** Commands that wait to be sent, and those that wait to be answered. */
export class Conversation {
  #id = 0;
  #queue: Waiting[] = [];
  #queueBytes = 0;
  #sent = new Map<number, Command>();

  /** How many commands wait to be sent. */
  get waiting(): number {
    return this.#queue.length;
  }

  ask(command: Command): void {
    const text = `"${command.kind}":${JSON.stringify(command.body)}}`;
    const waiting: Waiting = { ...command, text, bytes: bytes(text) + ID_BYTES, timer: undefined };
    if (command.wait_ms_max !== undefined) {
      if (this.#isFull(waiting)) throw new DuplexError(LIMIT_EXCEEDED, 'too many commands wait to be sent');
      waiting.timer = setTimeout(() => this.#expire(waiting), command.wait_ms_max);
      this.#queueBytes += waiting.bytes;
    }
    this.#queue.push(waiting);
  }

  /** The message that begins a connection: the commands that `ask` asks, before all that wait. */
  introduce(ask: () => void): Message {
    const waiting = this.#queue.splice(0);
    ask();
    // A token that is too long is for the server to refuse.
    const first = this.next(Math.max(FIRST_BYTES_MAX, this.#queue[0]!.bytes + BRACKETS_BYTES))!;
    this.#queue.push(...waiting);
    return first;
  }

  /** As many of the commands that wait as one message holds. */
  next(bytes_max: number): Message | undefined {
    const texts: string[] = [];
    const id = this.#id + 1;
    let total = BRACKETS_BYTES;
    for (let head; (head = this.#queue[0]) && texts.length < COMMANDS_MAX; ) {
      if (head.bytes + BRACKETS_BYTES > bytes_max) {
        this.#take().reject(new DuplexError(LIMIT_EXCEEDED, `longer than the ${bytes_max} bytes the server accepts`));
        continue;
      }
      total += head.bytes;
      if (total > bytes_max) break;
      this.#sent.set(++this.#id, this.#take());
      texts.push(`{"id":${this.#id},${head.text}`);
    }
    if (texts.length) return { text: texts.length > 1 ? `[${texts}]` : texts[0]!, id };
  }

  answered(frame: Frame): void {
    const command = this.#sent.get(frame.id!);
    const answer = frame.error ?? (command && (frame as any)[command.answer]);
    if (!answer) return;
    this.#sent.delete(frame.id!);
    if (frame.error) command!.reject(new DuplexError(frame.error.code, frame.error.message));
    else command!.resolve(answer);
  }

  /** The connection is over: what was sent is not answered any more. */
  lost(error: DuplexError): void {
    const sent = [...this.#sent.values()];
    const bound = this.#queue.filter(({ timer }) => !timer);
    this.#sent.clear();
    this.#queue = this.#queue.filter(({ timer }) => timer);
    for (const command of [...sent, ...bound]) command.reject(error);
  }

  /** Nothing that waits will be sent. */
  fail(error: DuplexError): void {
    while (this.#queue.length) this.#take().reject(error);
  }

  #isFull({ bytes }: Waiting): boolean {
    return this.#queue.length >= WAITING_COMMANDS_MAX || this.#queueBytes + bytes > WAITING_BYTES_MAX;
  }

  #take(): Waiting {
    const command = this.#queue.shift()!;
    this.#release(command);
    return command;
  }

  #release({ timer, bytes }: Waiting): void {
    clearTimeout(timer);
    if (timer) this.#queueBytes -= bytes;
  }

  #expire(command: Waiting): void {
    this.#queue = this.#queue.filter((other) => other !== command);
    this.#release(command);
    command.reject(new DuplexError(NOT_AVAILABLE, 'there was no connection in time; the command was not sent'));
  }
}
