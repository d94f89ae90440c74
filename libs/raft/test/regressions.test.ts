/** What random runs and reviews have found, each as small as it can be told. */
import { utf8 } from '@quoin/base';
import { expect, test } from 'vitest';
import { EntryType, encodeConfChange, MessageType } from '../src/index.ts';
import { acknowledge, change, drain, entry, lead, log, message, start } from './messages.ts';
import { TestNode } from './node.ts';

const confState = {
  voters: [1n, 2n, 3n],
  votersOutgoing: [],
  learners: [],
  learnersNext: [],
  autoLeave: false,
};

test('a Ready does not grow after it was handed out: an acknowledgement slipped into one that was being written', () => {
  const node = start();
  node.raft.step(message(MessageType.heartbeat, { commit: 1 }));
  const ready = node.takeReady();
  node.raft.step(message(MessageType.append, { index: 1, logTerm: 1, entries: [entry(2, 2)] }));
  node.raft.step(message(MessageType.heartbeat, { commit: 1 }));
  expect(ready.afterPersist).toEqual([]);
  expect(ready.messages).toHaveLength(1);
});

test('while a state is installed, nothing behind it is acknowledged: it is not written before', () => {
  const node = start();
  const snapshot = { index: 5, term: 2, confState };
  node.step({
    message: message(MessageType.snapshot, { snapshot }),
    machine: { applied: 5, text: '', conf: confState },
  });
  node.takeReady();
  node.raft.step(message(MessageType.append, { index: 5, logTerm: 2, entries: [entry(2, 6)] }));
  expect(node.raft.hasReady()).toBe(false);
  node.completeWrite();
  node.raft.step(message(MessageType.append, { index: 5, logTerm: 2, entries: [entry(2, 6)] }));
  expect(node.takeReady().entries).toMatchObject([{ index: 6 }]);
});

test('the hard state never counts entries of its own write: torn, it would make the old suffix committed', () => {
  const node = start({ term: 2, entries: log(1, 2, 2) });
  node.raft.step(
    message(MessageType.append, { term: 3, index: 2, logTerm: 1, entries: [entry(3, 3)], commit: 3 }),
  );
  const ready = node.takeReady();
  expect(ready.hardState).toMatchObject({ term: 3, commit: 2 });
  node.completeWrite();
  expect(node.takeReady().hardState).toMatchObject({ commit: 3 });
});

test('a torn write that kept only the hard state leaves a log that is not committed', () => {
  const node = start({ term: 2, entries: log(1, 2, 2) });
  node.raft.step(
    message(MessageType.append, { term: 3, index: 2, logTerm: 1, entries: [entry(3, 3)], commit: 3 }),
  );
  node.takeReady();
  node.restart(0, 0, true);
  expect(node.raft.status()).toMatchObject({ term: 3, commit: 2, lastIndex: 4 });
});

test('a membership change in the log proves that the one before it is committed', () => {
  const conf = (index: number, id: bigint) => ({
    term: 2,
    index,
    type: EntryType.confChange,
    data: encodeConfChange(change(['addVoter', id])),
  });
  const node = start({ term: 2, entries: [entry(2, 2), conf(3, 4n), entry(2, 4), conf(5, 5n)] });
  expect(node.raft.commitIndex).toBe(3);
  // It campaigns only when it has applied that: until then it would count by too old a membership.
  node.raft.campaign();
  expect(node.raft.role).toBe('follower');
  drain(node);
  expect(node.raft.confState.voters).toEqual([1n, 2n, 3n, 4n]);
  node.raft.campaign();
  expect(node.raft.role).toBe('preCandidate');
});

test('a torn write that kept only entries raises the term, and gives no vote away twice', () => {
  const node = start({ term: 2, vote: 2n, entries: [entry(2, 2), entry(3, 3)] });
  expect(node.raft.status()).toMatchObject({ term: 3, vote: 0n });
  expect(node.takeReady().hardState).toMatchObject({ term: 3 });
});

test('a removed leader goes also when everybody knew of the commit before it applied its removal', () => {
  const node = lead({ options: { maxApplyingBytes: 1 } });
  drain(node);
  acknowledge(node, 2n);
  acknowledge(node, 3n);
  node.raft.proposeConfChange(change(['removeNode', 1n]));
  node.takeReady();
  node.completeWrite();
  // Committed and known to be so by both others, before the leader has applied it.
  for (const from of [2n, 3n])
    node.raft.step(message(MessageType.appendResponse, { from, index: 3, commit: 3 }));
  expect(node.raft.role).toBe('leader');
  node.takeReady();
  expect(node.raft.confState.voters).toEqual([2n, 3n]);
  node.raft.step(message(MessageType.heartbeatResponse, { from: 3n, commit: 3 }));
  expect(node.raft.role).toBe('follower');
  expect(node.takeReady().messages).toContainEqual(
    expect.objectContaining({ type: MessageType.timeoutNow, to: 2n }),
  );
});

test('a forgotten hard state is found out: acknowledged entries that are gone stop the process', () => {
  const node = start();
  expect(() => node.raft.step(message(MessageType.heartbeat, { commit: 7 }))).toThrow('was it lost?');
  expect(() => new TestNode(1n, { ...startState(), applied: 9 }, { random: { u32: () => 0 } })).toThrow(
    'was it truncated?',
  );
  expect(() => start({ commit: 7 })).toThrow('was it truncated?');
});

function startState() {
  return {
    hardState: { term: 1, vote: 0n, commit: 1 },
    start: { index: 1, term: 1 },
    entries: [],
    applied: 1,
    confState,
  };
}

test('two leaders of one term stop the process', () => {
  const node = start();
  node.raft.step(message(MessageType.heartbeat, { from: 2n, commit: 1 }));
  expect(() => node.raft.step(message(MessageType.heartbeat, { from: 3n, commit: 1 }))).toThrow(
    'two leaders',
  );
});

test('messages for others, from strangers, or out of place do no harm', () => {
  const node = lead();
  drain(node);
  for (const type of Object.values(MessageType)) {
    node.raft.step(message(type, { to: 9n }));
    if (type !== MessageType.append && type !== MessageType.heartbeat && type !== MessageType.snapshot) {
      node.raft.step(message(type, { from: 9n, term: 0 }));
      if (type !== MessageType.vote && type !== MessageType.preVote)
        node.raft.step(message(type, { from: 9n }));
    }
  }
  expect(node.raft.role).toBe('leader');
  expect(node.raft.propose(utf8('x'))).toBe('ok');
});

test('with lease reads an election that is asked for waits until the lease that was given has run out', () => {
  const node = start({ options: { lease: { nowMs: () => 0, leaseMs: 8 } } });
  node.raft.step(message(MessageType.heartbeat, { commit: 1 }));
  node.raft.campaign();
  expect(node.raft.role).toBe('follower');
  for (let i = 0; i < 10; i++) node.raft.tick();
  expect(node.raft.role).toBe('preCandidate');
});

// It campaigned against its new leader within a heartbeat or two, in vain but for good.
test('a node that has tried to be elected and then hears a leader waits a whole election timeout again', () => {
  const node = start({ options: { electionTicks: 20, heartbeatTicks: 5 } });
  const refuse = (): void => {
    for (const from of [2n, 3n]) {
      node.raft.step(message(MessageType.preVoteResponse, { from, term: node.raft.term, reject: true }));
    }
  };
  for (let i = 0; i < 20; i++) node.raft.tick();
  refuse();
  expect(node.raft.role).toBe('follower');
  node.raft.step(message(MessageType.heartbeat, { term: node.raft.term, commit: 1 }));
  for (let i = 0; i < 19; i++) node.raft.tick();
  expect(node.raft.role).toBe('follower');
  node.raft.tick();
  expect(node.raft.role).toBe('preCandidate');
});
