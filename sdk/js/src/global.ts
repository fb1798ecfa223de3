import { Client } from './client.js';
import { DuplexError } from './error.js';

// Pages and workers that load a classic script find it under its name.
Object.assign(globalThis, { Duplex: { Client, DuplexError } });
