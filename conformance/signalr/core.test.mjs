// Every kind of client on every way: the same promises.
import { describe, test } from 'node:test';
import { shared } from '../common/server.mjs';
import { everybody, first, join } from './clients.mjs';
import { CORE } from './core.mjs';

for (const { name, client, way } of [...everybody, ...first]) {
  describe(name, () => {
    // Who cannot even connect would fail every promise, and take ten seconds for each.
    let reached = false;
    const reach = async (t, options) => {
      const connection = await join(t, shared, { client, way, ...options });
      reached = true;
      return connection;
    };
    for (const [index, [promise, play]] of Object.entries(CORE).entries()) {
      test(promise, (t) => {
        if (index > 0 && !reached) throw new Error('this client cannot connect');
        return play({ t, url: shared, client, way, join: (options) => reach(t, options) });
      });
    }
  });
}
