type Listener<Value> = (value: Value) => void;

/** Tells listeners what happens. */
export class Emitter<Events> {
  #listeners = new Map<keyof Events, Set<Listener<any>>>();

  /** Calls `listener` at every `name`; the function returned removes it. */
  on<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): () => void {
    if (!this.#listeners.has(name)) this.#listeners.set(name, new Set());
    this.#listeners.get(name)!.add(listener);
    return () => this.off(name, listener);
  }

  /** Calls `listener` at the next `name` only. */
  once<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): () => void {
    const off = this.on(name, (value) => {
      off();
      listener(value);
    });
    return off;
  }

  off<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): void {
    this.#listeners.get(name)?.delete(listener);
  }

  /** @internal */
  emit<Name extends keyof Events>(name: Name, value: Events[Name]): void {
    // A copy, because listeners come and go while they are called.
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        listener(value);
      } catch (error) {
        report(error);
      }
    }
  }
}

/** An error of the application is the application's: it is told where uncaught errors are, and the client goes on. */
function report(error: unknown): void {
  if (typeof reportError === 'function') reportError(error);
  else
    queueMicrotask(() => {
      throw error;
    });
}
