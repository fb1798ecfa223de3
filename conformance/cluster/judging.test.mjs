// The judge of the audit finds what is wrong, of each kind, and nothing where nothing is.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Published, holdClients, holdHistory } from './audit.mjs';

/** Five publications; the fourth was tried twice. */
function published() {
  const channel = new Published();
  for (const offset of [1, 2, 3, 4, 5]) channel.add(`p${offset}`, 'e', offset, offset === 4 ? 2 : 1);
  return new Map([['news', channel]]);
}

const got = (...offsets) => offsets.map((offset) => ['got', offset, `p${offset}`]);
const unplaced = (...offsets) => offsets.map((offset) => ['got', null, `p${offset}`]);
const BEGIN = ['subscribed', 'e', 0, null];

function judge(...entries) {
  const { faults } = holdClients(published(), entries.map((entry) => ['ada', 'news', ...entry]));
  const found = Object.entries(faults.counts).filter(([, count]) => count > 0);
  return { ...Object.fromEntries(found), ...(faults.told && { told: faults.told }), ...(faults.repeated && { repeated: faults.repeated }) };
}

test('nothing is wrong where nothing is', () => {
  assert.deepEqual(judge(BEGIN, ...got(1, 2, 3, 4, 5)), {});
  assert.deepEqual(judge(BEGIN, ...unplaced(1, 2), ['recovered'], ...unplaced(3, 4, 5)), {});
  assert.deepEqual(judge(BEGIN, ...got(1, 2), ['subscribed', 'e', 4, true], ...got(3, 4, 5)), {});
  assert.deepEqual(judge(['subscribed', 'e', 3, null], ...got(4, 5)), {});
});

test('a loss is found, in the middle, at the end, and behind a recovery that was none', () => {
  assert.deepEqual(judge(BEGIN, ...got(1, 2, 4, 5)), { lost: 1 });
  assert.deepEqual(judge(BEGIN, ...unplaced(1, 2, 4, 5)), { lost: 1 });
  assert.deepEqual(judge(BEGIN, ...got(1, 2, 3)), { lost: 2 });
  assert.deepEqual(judge(BEGIN, ...got(1, 2), ['subscribed', 'e', 4, true], ...got(5)), { lost: 2 });
});

test('who is told of a gap has not lost anything silently', () => {
  assert.deepEqual(judge(BEGIN, ...got(1, 2), ['subscribed', 'e', 4, false], ...got(5)), { told: 1 });
});

test('what comes twice or in another order is found', () => {
  assert.deepEqual(judge(BEGIN, ...got(1, 2, 2, 3, 4, 5)), { repeated: 1 });
  assert.deepEqual(judge(BEGIN, ...got(1, 3, 2, 4, 5)), { lost: 1, disordered: 1 });
  assert.deepEqual(judge(BEGIN, ['got', 1, 'p1'], ['got', 2, 'p1'], ...got(3, 4, 5)), { strange: 1, lost: 1 });
});

test('who stays away is found', () => {
  assert.deepEqual(judge(BEGIN, ...got(1, 2, 3, 4, 5), ['ended', 'why']), { away: 1 });
});

test('what was accepted is in history, once, where it was said to be', () => {
  const history = (...entries) => {
    const channel = new Published();
    for (const [id, offset] of entries) channel.add(id, 'e', offset);
    return new Map([['news', channel]]);
  };
  const whole = [1, 2, 3, 4, 5].map((offset) => [`p${offset}`, offset]);
  const counts = (...entries) => holdHistory(published(), history(...entries)).counts;
  assert.deepEqual(counts(...whole), { lost: 0, doubled: 0, disordered: 0, strange: 0, away: 0 });
  assert.equal(counts(...whole.slice(1)).lost, 1);
  assert.equal(counts(...whole, ['p4', 6]).doubled, 1);
  assert.equal(counts(...whole.slice(1), ['p1', 9]).disordered, 1);
});
