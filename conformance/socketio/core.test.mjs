// Every kind of client on every way: the same promises.
import { after, before, describe, test } from 'node:test';
import { CLIENTS, WAYS, join } from './clients.mjs';
import { CORE } from './core.mjs';
import { Server, shared } from './server.mjs';

/** Only for old clients: new ones have the server as it is without options. */
const V2 = { 'socketio-v2-clients': true };

for (const [name, client] of Object.entries(CLIENTS)) {
  describe(name, () => {
    let url = shared;
    let own;
    if (client.isV2) {
      before(async () => {
        own = await Server.launch(V2);
        url = own.url;
      });
      after(() => own.stop());
    }
    for (const way of Object.keys(WAYS)) {
      for (const [promise, play] of Object.entries(CORE)) {
        test(`over ${way} it ${promise}`, (t) => play({ t, url, client, way, join: () => join(t, url, { client, way }) }));
      }
    }
  });
}
