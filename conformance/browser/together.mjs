// The page with all clients side by side, served from an origin of its own: `npm run together [-- SERVER]`, see README.md.
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import { pathToFileURL } from 'node:url';

const here = (path) => new URL(path, import.meta.url);
const BUNDLES = {
  '/signalr.min.js': './node_modules/@microsoft/signalr/dist/browser/signalr.min.js',
  '/signalr-protocol-msgpack.min.js': './node_modules/@microsoft/signalr-protocol-msgpack/dist/browser/signalr-protocol-msgpack.min.js',
  '/socket.io.min.js': './node_modules/socket.io-client/dist/socket.io.min.js',
};

/** What is served, as type and content; nothing for a path that is not there. */
async function file(path) {
  if (path === '/') return ['text/html', await readFile(here('./together.html'))];
  // It looks like the server's own page.
  if (path === '/page.css') return ['text/css', (await readFile(here('../../crates/server/assets/index.html'), 'utf8')).match(/<style>(.*?)<\/style>/s)[1]];
  return BUNDLES[path] && ['text/javascript', await readFile(here(BUNDLES[path]))];
}

/** Serves the page at `port` of this machine; its origin, and how to end it. */
export async function serve(port = 0) {
  const site = http.createServer(async (request, response) => {
    const [type, content] = await file(new URL(request.url, 'http://page').pathname) ?? [];
    if (type) response.writeHead(200, { 'content-type': `${type}; charset=utf-8` }).end(content);
    else response.writeHead(404).end();
  });
  await new Promise((resolve, reject) => site.once('error', reject).listen(port, '127.0.0.1', resolve));
  return { origin: `http://127.0.0.1:${site.address().port}`, close: () => site.close() };
}

/** The address of the page for clients of `server` in `channel`. */
export const address = (origin, server, channel) => `${origin}/?${new URLSearchParams({ server, channel })}`;

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { origin } = await serve(8080);
  console.log(`duplex serve --allow-origin ${origin}\n${address(origin, process.argv[2] ?? 'http://127.0.0.1:8000', 'lobby')}`);
}
