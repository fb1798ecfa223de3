// A process that was not there: it reads history by the API and the logs of whoever published and listened, and says what is wrong.
import { readFile } from 'node:fs/promises';
import { Published, holdClients, holdHistory } from './audit.mjs';

const { url, key, channels, publisher, listeners, keepsAll } = JSON.parse(process.argv[2]);
const headers = { 'content-type': 'application/json', authorization: `Bearer ${key}` };

async function lines(file) {
  const text = await readFile(file, 'utf8');
  return text.split('\n').filter(Boolean).map((line) => JSON.parse(line));
}

async function page(channel, since) {
  const body = JSON.stringify({ channel, limit: 1_000, ...(since && { since }) });
  const response = await fetch(`${url}/api/v1/history`, { method: 'POST', headers, body });
  if (response.status !== 200) throw new Error(`history of ${channel}: ${response.status} ${await response.text()}`);
  return response.json();
}

async function history(channel) {
  const published = new Published();
  let since;
  for (;;) {
    const { epoch, offset, publications } = await page(channel, since);
    for (const { offset: at, data } of publications) published.add(data.id, epoch, at);
    published.top = offset;
    published.epoch = epoch;
    if (publications.length === 0 || publications.at(-1).offset === offset) return published;
    since = { epoch, offset: publications.at(-1).offset };
  }
}

function accepted(log) {
  const all = new Map(channels.map((channel) => [channel, new Published()]));
  for (const [channel, ...publication] of log) all.get(channel).add(...publication);
  return all;
}

/** Kept whole, history says where everything stands; else whoever published does, and history how far it goes. */
function published(said, histories) {
  if (keepsAll) return histories;
  for (const [channel, history] of histories) {
    const known = said.get(channel);
    known.top = history.top;
    for (const id of history.ids) for (const offset of history.offsets(id)) known.add(id, history.epoch, offset);
  }
  return said;
}

const tell = ({ counts, told, repeated, recovered, examples }) => ({ ...counts, told, repeated, recovered, examples });

const said = accepted(await lines(publisher));
const histories = new Map(await Promise.all(channels.map(async (channel) => [channel, await history(channel)])));
const inHistory = keepsAll ? tell(holdHistory(said, histories)) : null;
const logs = (await Promise.all(listeners.map(lines)));
const byLog = {};
for (const [at, log] of logs.entries()) {
  const { clients, got, faults } = holdClients(published(said, histories), log);
  byLog[listeners[at]] = { clients, got, ...tell(faults) };
}
process.send({ inHistory, byLog }, () => process.exit());
