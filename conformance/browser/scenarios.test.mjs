// Every scenario, with the JavaScript client in a browser, over every transport.
import { existsSync, readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';

const { DUPLEX_PROGRAM, CHROMIUM = '/usr/bin/chromium', ONLY = '' } = process.env;
if (!existsSync(CHROMIUM) || !DUPLEX_PROGRAM) {
  console.log('SKIP: scenarios in a browser need Chromium and the program in DUPLEX_PROGRAM');
  process.exit(0);
}
const { Play, scenarios } = await import('./scenario.mjs');
const { Server } = await import('./stage.mjs');
const { Browser } = await import('./window.mjs');

const sdk = readFileSync(new URL('../../crates/server/assets/duplex.js', import.meta.url), 'utf8');
let browser;

before(async () => { browser = await Browser.launch(CHROMIUM); });
after(() => browser.close());

for (const transport of ['websocket', 'sse', 'stream', 'poll']) {
  for (const { title, lines } of scenarios()) {
    const name = `${transport}: ${title}`;
    if (!name.includes(ONLY)) continue;
    test(name, async (t) => {
      const server = await Server.start(DUPLEX_PROGRAM);
      t.after(() => server.stop());
      const play = new Play({ browser, server, sdk, transport });
      t.after(() => play.leave());
      for (const line of lines) {
        try {
          await play.line(line);
        } catch (error) {
          error.message = `${line}: ${error.message}`;
          throw error;
        }
      }
      await play.end();
    });
  }
}
