// Every kind of client on every way: the same promises.
import { after, before, describe, test } from 'node:test';
import { CLIENTS, WAYS, flagsFor, join } from './clients.mjs';
import { CORE } from './core.mjs';
import { Server, shared } from '../common/server.mjs';

for (const [name, client] of Object.entries(CLIENTS)) {
  describe(name, () => {
    let url = shared;
    let own;
    if (client.isV2) {
      before(async () => {
        own = await Server.launch(flagsFor(client));
        url = own.url;
      });
      after(() => own?.stop());
    }
    for (const way of Object.keys(WAYS)) describe(`over ${way}`, () => promises({ client, way, server: () => url }));
  });
}

function promises({ client, way, server }) {
  // Who cannot even connect would fail every promise, and take ten seconds for each.
  let reached = false;
  const reach = async (t, url) => {
    const socket = await join(t, url, { client, way });
    reached = true;
    return socket;
  };
  for (const [index, [promise, play]] of Object.entries(CORE).entries()) {
    test(promise, (t) => {
      if (index > 0 && !reached) throw new Error('this client cannot connect');
      const url = server();
      return play({ t, url, client, way, join: () => reach(t, url) });
    });
  }
}
