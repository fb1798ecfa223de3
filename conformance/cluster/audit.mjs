// What clients got, held against what was published. Pure, so that it can be shown to find what is wrong.

/** Faults of each kind, counted, with the first few in words. */
class Faults {
  counts = { lost: 0, doubled: 0, disordered: 0, strange: 0, away: 0 };
  told = 0;
  repeated = 0;
  recovered = 0;
  examples = [];

  note(kind, words, count = 1) {
    this.counts[kind] += count;
    if (this.examples.length < 20) this.examples.push(`${kind}: ${words}`);
  }
}

/** What was published in a channel: where each publication stands, and how far the channel goes. */
export class Published {
  #offsets = new Map();
  /** Offsets that nobody who published was told. */
  #named = new Set();
  #repeated = new Set();
  top = 0;
  epoch;

  add(id, epoch, offset, attempts = 1) {
    this.epoch ??= epoch;
    const offsets = this.#offsets.get(id) ?? [];
    if (!offsets.includes(offset)) offsets.push(offset);
    this.#offsets.set(id, offsets);
    this.#named.add(offset);
    if (attempts > 1) this.#repeated.add(id);
    this.top = Math.max(this.top, offset);
  }

  offsets(id) {
    return this.#offsets.get(id) ?? [];
  }

  /** Whether the publication may stand there: one that was tried several times may do so twice if its key was forgotten meanwhile. */
  mayStand(id, offset) {
    return this.offsets(id).includes(offset) || (this.#repeated.has(id) && !this.#named.has(offset));
  }

  get ids() {
    return [...this.#offsets.keys()];
  }
}

/** Whether everything that was accepted is in history, once, where it was said to be. */
export function holdHistory(accepted, histories) {
  const faults = new Faults();
  for (const [channel, published] of accepted) {
    const history = histories.get(channel);
    for (const id of published.ids) {
      const [said] = published.offsets(id);
      const kept = history?.offsets(id) ?? [];
      if (kept.length === 0) faults.note('lost', `${channel} ${id} was accepted at ${said} and is not in history`);
      else if (kept.length > 1) faults.note('doubled', `${channel} ${id} stands at ${kept}`);
      else if (kept[0] !== said) faults.note('disordered', `${channel} ${id} was accepted at ${said} and stands at ${kept[0]}`);
    }
  }
  return faults;
}

/** What each client got: `logs` are lines `[client, channel, kind, …]`, in the order of each client. */
export function holdClients(published, logs) {
  const faults = new Faults();
  const clients = new Map();
  let got = 0;
  for (const [name, channel, kind, ...entry] of logs) {
    if (!clients.has(name)) clients.set(name, new Listener(name, published.get(channel) ?? new Published(), faults));
    clients.get(name)[kind](...entry);
    if (kind === 'got') got += 1;
  }
  for (const client of clients.values()) client.finish();
  return { clients: clients.size, got, faults };
}

/** One client of one channel. */
class Listener {
  #name;
  #published;
  #faults;
  /** Offset of the newest that it has. */
  #at = null;
  /** Which publication it got where. */
  #seen = new Map();
  #ids = new Set();

  constructor(name, published, faults) {
    this.#name = name;
    this.#published = published;
    this.#faults = faults;
  }

  subscribed(epoch, offset, recovered) {
    if (this.#published.epoch !== undefined && epoch !== this.#published.epoch) this.#note('strange', `epoch ${epoch}`);
    if (this.#at !== null && recovered === true) {
      this.#faults.recovered += 1;
      return;
    }
    // It knows that it begins anew.
    if (this.#at !== null) this.#faults.told += 1;
    this.#at = offset;
  }

  recovered() {
    this.#faults.recovered += 1;
  }

  got(said, id) {
    const offset = said ?? this.#whereItMayBe(id);
    if (!this.#published.mayStand(id, offset)) return this.#note('strange', `${id} at ${offset}, which was published at ${this.#published.offsets(id)}`);
    if (this.#seen.get(offset) === id) {
      // The same position twice: whoever keeps positions knows.
      this.#faults.repeated += 1;
      return undefined;
    }
    if (this.#ids.has(id) && this.#published.offsets(id).length < 2 && offset <= this.#at) this.#note('doubled', `${id} at ${offset}`);
    this.#seen.set(offset, id);
    this.#ids.add(id);
    return this.#goOn(offset);
  }

  /** Where the protocol does not say it: where it fits, if it can. */
  #whereItMayBe(id) {
    if (this.#published.mayStand(id, this.#at + 1)) return this.#at + 1;
    return this.#published.offsets(id)[0];
  }

  #goOn(offset) {
    if (offset <= this.#at) {
      this.#note('disordered', `${offset} behind ${this.#at}`);
      return;
    }
    const missing = offset - this.#at - 1;
    if (missing > 0) this.#note('lost', `${missing} before ${offset}`, missing);
    this.#at = offset;
  }

  ended(why) {
    this.#note('away', `${why}`);
  }

  finish() {
    const missing = this.#published.top - this.#at;
    if (missing > 0) this.#note('lost', `the last ${missing}`, missing);
  }

  #note(kind, words, count) {
    this.#faults.note(kind, `${this.#name}: ${words}`, count);
  }
}
