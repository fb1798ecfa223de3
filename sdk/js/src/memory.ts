import type { Transport } from './protocol.js';

/** The transport that worked at each server, for a while. */
const kept = new Map<string, string>();

// Pages may be forbidden to store anything, and then even looking throws.
function stored(use: (storage: Storage) => string | null | void): string | null | void {
  try {
    if (typeof document !== 'undefined') return use(localStorage);
  } catch {}
}

const key = (base: string): string => `duplex:${base}`;

export function remember(base: string, transport: Transport, ms: number): void {
  const text = `${transport} ${Date.now() + ms}`;
  kept.set(base, text);
  stored((storage) => storage.setItem(key(base), text));
}

export function remembered(base: string): string | undefined {
  const text = stored((storage) => storage.getItem(key(base))) ?? kept.get(base) ?? '';
  const [transport, until] = text.split(' ');
  return Number(until) > Date.now() ? transport : undefined;
}
