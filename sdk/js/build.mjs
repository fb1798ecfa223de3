// Makes dist: modules with their types, and two bundles in one file each, which the server brings to browsers.
import { execFileSync } from 'node:child_process';
import { copyFile, readFile, rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const { name, version, license } = JSON.parse(await readFile(here('package.json'), 'utf8'));
const bundles = [
  { entry: 'src/global.ts', file: 'duplex.js', format: 'iife' },
  { entry: 'src/index.ts', file: 'duplex.mjs', format: 'esm' },
];

await rm(here('dist'), { recursive: true, force: true });
execFileSync(process.execPath, [here('node_modules/typescript/bin/tsc'), '-p', here('.')], { stdio: 'inherit' });
for (const { entry, file, format } of bundles) {
  await build({
    absWorkingDir: here('.'),
    entryPoints: [entry],
    outfile: `dist/${file}`,
    bundle: true,
    minify: true,
    format,
    target: 'es2022',
    banner: { js: `/* ${name} ${version}, ${license} */` },
  });
  await copyFile(here(`dist/${file}`), here(`../../crates/server/assets/${file}`));
}
