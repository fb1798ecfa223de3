// The bundles are part of every page that uses them, so they have a limit.
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

const LIMIT = 8_192;
const sizes = ['duplex.js', 'duplex.mjs'].map((file) => {
  const bundle = readFileSync(new URL(`dist/${file}`, import.meta.url));
  return { file, plain: bundle.length, gzipped: gzipSync(bundle, { level: 9 }).length };
});
for (const { file, plain, gzipped } of sizes) console.log(`${file}: ${plain} bytes, gzipped ${gzipped} of at most ${LIMIT}`);
if (sizes.some(({ gzipped }) => gzipped > LIMIT)) process.exit(1);
