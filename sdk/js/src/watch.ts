/** Judges by silence whether a wire is dead. */
export class Watch {
  #dead: () => void;
  #answer_ms_max: number;
  #ask: (() => void) | undefined;
  #asked = false;
  #heard = 0;
  #silence_ms_max = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(dead: () => void, answer_ms_max: number) {
    this.#dead = dead;
    this.#answer_ms_max = answer_ms_max;
  }

  /** From now on so much silence is too much: then `ask` is called, and `dead` if that brings nothing. */
  expect(silence_ms_max: number, ask?: () => void): void {
    this.#silence_ms_max = silence_ms_max;
    this.#ask = ask;
    this.heard();
    this.#sleep(silence_ms_max);
  }

  heard(): void {
    this.#heard = performance.now();
    this.#asked = false;
  }

  /** Asks now, because something may have changed, unless someone else has `asked` for an answer already. */
  check(asked = false): void {
    if (this.#ask && !this.#asked) this.#inquire(asked);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  // The timer is not set anew whenever something comes, but for what is left when it fires.
  #sleep(ms: number): void {
    this.stop();
    this.#timer = setTimeout(() => this.#wake(), ms);
  }

  #wake(): void {
    const left_ms = this.#heard + this.#silence_ms_max - performance.now();
    if (this.#asked) this.#dead();
    else if (left_ms > 0) this.#sleep(left_ms);
    else if (this.#ask) this.#inquire();
    else this.#dead();
  }

  #inquire(asked = false): void {
    this.#asked = true;
    this.#sleep(this.#answer_ms_max);
    if (!asked) this.#ask!();
  }
}
