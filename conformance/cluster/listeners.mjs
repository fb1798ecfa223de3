// A process with many clients of one protocol, spread over channels and ways. What each got is a line of its log: `[client, channel, …entry]`.
import { createWriteStream } from 'node:fs';
import { PROTOCOLS } from './clients.mjs';

const { protocol, ways, url, count, channels, log } = JSON.parse(process.argv[2]);
const output = createWriteStream(log);
/** Clients that begin at the same time. */
const AT_ONCE = 20;

async function begin(number) {
  const [channel, way] = [channels[number % channels.length], ways[number % ways.length]];
  const note = (entry) => output.write(`${JSON.stringify([`${protocol}-${way}-${number}`, channel, ...entry])}\n`);
  await PROTOCOLS[protocol](url, channel, note, way);
}

process.on('message', (question) => {
  // Everything that was noted before is in the file.
  if (question === 'flush') output.write('', () => process.send('flushed'));
});
process.on('disconnect', () => process.exit());

for (let number = 0; number < count; number += AT_ONCE) {
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, count - number) }, (_, at) => begin(number + at)));
}
process.send('ready');
