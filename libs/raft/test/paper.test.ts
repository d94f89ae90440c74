/**
 * One test per rule of the Raft paper (Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm",
 * extended version, cited as §) and of Ongaro's thesis ("Consensus: Bridging Theory and Practice", cited as thesis §).
 */
import { utf8, utf8Text } from '@quoin/base';
import { describe, expect, test } from 'vitest';
import { type Message, MessageType, type Role } from '../src/index.ts';
import { acknowledge, change, drain, entry, lead, log, message, start, step } from './messages.ts';
import { FixedRandom, type TestNode } from './node.ts';

function as(role: Role): TestNode {
  if (role === 'leader') {
    const node = lead();
    drain(node);
    return node;
  }
  const node = start({ options: { preVote: role === 'preCandidate' } });
  if (role !== 'follower') node.raft.campaign();
  drain(node);
  expect(node.raft.role).toBe(role);
  return node;
}

function only(messages: readonly Message[], type: MessageType): Message[] {
  return messages.filter((m) => m.type === type);
}

describe('§5.1 terms', () => {
  test.each<Role>(['follower', 'preCandidate', 'candidate', 'leader'])(
    'a %s adopts a higher term and follows',
    (role) => {
      const node = as(role);
      const term = node.raft.term + 3;
      step(node, MessageType.append, { term, index: 1, logTerm: 1 });
      expect(node.raft.status()).toMatchObject({ role: 'follower', term, leader: 2n, vote: 0n });
      expect(node.disk.hardState.term).toBe(term);
    },
  );

  test('a request of a lower term is refused with the current term', () => {
    const node = start({ term: 5 });
    const [answer] = step(node, MessageType.append, {
      term: 4,
      index: 1,
      logTerm: 1,
      entries: [entry(4, 2)],
    });
    expect(answer).toMatchObject({ type: MessageType.appendResponse, term: 5, reject: true });
    expect(node.raft.lastIndex).toBe(1);
    expect(step(node, MessageType.voteResponse, { term: 4 })).toEqual([]);
  });
});

describe('§5.2 leader election', () => {
  test('a node starts as follower', () => {
    expect(start({ term: 3 }).raft.role).toBe('follower');
  });

  test('a leader sends heartbeats to all, every heartbeatTicks', () => {
    const node = lead({ options: { heartbeatTicks: 3 } });
    drain(node);
    node.raft.tick();
    node.raft.tick();
    expect(drain(node)).toEqual([]);
    node.raft.tick();
    expect(drain(node)).toMatchObject([
      { type: MessageType.heartbeat, to: 2n, term: 2 },
      { type: MessageType.heartbeat, to: 3n, term: 2 },
    ]);
  });

  test('a follower that hears nothing increments its term, votes for itself and asks all others', () => {
    const node = start({ options: { preVote: false, random: new FixedRandom(4) } });
    for (let i = 0; i < 13; i++) node.raft.tick();
    expect(drain(node)).toEqual([]);
    node.raft.tick();
    expect(drain(node)).toMatchObject([
      { type: MessageType.vote, to: 2n, term: 2, index: 1, logTerm: 1 },
      { type: MessageType.vote, to: 3n, term: 2, index: 1, logTerm: 1 },
    ]);
    expect(node.disk.hardState).toMatchObject({ term: 2, vote: 1n });
  });

  test('a follower that hears its leader stays one', () => {
    const node = start();
    for (let i = 0; i < 50; i++) {
      node.raft.tick();
      step(node, MessageType.heartbeat, { term: 2, commit: 1 });
    }
    expect(node.raft.role).toBe('follower');
  });

  test.each([
    [1, [], true],
    [3, [true], true],
    [3, [false, false], false],
    [5, [true], undefined],
    [5, [true, false, true], true],
    [5, [true, false, false, false], false],
    [4, [true, true], true],
    [4, [true, false, false], false],
  ])('of %i voters, with answers %j, a candidate has won: %s', (voters, answers, won) => {
    const node = start({ voters, options: { preVote: false } });
    node.raft.campaign();
    drain(node);
    answers.forEach((granted, i) => {
      step(node, MessageType.voteResponse, { from: BigInt(i + 2), reject: !granted });
    });
    expect(node.raft.role).toBe(won === undefined ? 'candidate' : won ? 'leader' : 'follower');
  });

  test('a vote that comes twice counts once', () => {
    const node = start({ voters: 5, options: { preVote: false } });
    node.raft.campaign();
    drain(node);
    for (let i = 0; i < 3; i++) step(node, MessageType.voteResponse, { from: 2n });
    expect(node.raft.role).toBe('candidate');
  });

  test('one vote per term, first come first served, also after a restart', () => {
    const node = start();
    expect(step(node, MessageType.vote, { from: 2n, index: 1, logTerm: 1 })[0]).toMatchObject({
      reject: false,
    });
    expect(step(node, MessageType.vote, { from: 3n, index: 9, logTerm: 1 })[0]).toMatchObject({
      reject: true,
    });
    node.restart();
    expect(step(node, MessageType.vote, { from: 3n, index: 9, logTerm: 1 })[0]).toMatchObject({
      reject: true,
    });
    expect(step(node, MessageType.vote, { from: 2n, index: 1, logTerm: 1 })[0]).toMatchObject({
      reject: false,
    });
  });

  test.each<Role>(['preCandidate', 'candidate'])(
    'a %s that hears a leader of its term follows it',
    (role) => {
      const node = as(role);
      step(node, MessageType.append, { term: node.raft.term, index: 1, logTerm: 1 });
      expect(node.raft.status()).toMatchObject({ role: 'follower', leader: 2n });
    },
  );

  test('election timeouts are spread over [electionTicks, 2·electionTicks)', () => {
    const seen = new Set<number>();
    for (let value = 0; value < 40; value++) {
      const node = start({ options: { random: new FixedRandom(value * 7) } });
      let ticks = 0;
      while (node.raft.role === 'follower') {
        node.raft.tick();
        ticks++;
      }
      seen.add(ticks);
    }
    expect([...seen].sort((a, b) => a - b)).toEqual([10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
  });

  test('a candidate whose election fails tries again in a new term after a new timeout', () => {
    const random = new FixedRandom(0);
    const node = start({ options: { preVote: false, random } });
    for (let i = 0; i < 10; i++) node.raft.tick();
    random.value = 5;
    drain(node);
    expect(node.raft.term).toBe(2);
    for (let i = 0; i < 10; i++) node.raft.tick();
    expect(node.raft.term).toBe(3);
    for (let i = 0; i < 14; i++) node.raft.tick();
    expect(node.raft.term).toBe(3);
    node.raft.tick();
    expect(node.raft.term).toBe(4);
  });

  test('a vote for itself counts only when it is on disk', () => {
    const node = start({ voters: 1 });
    node.raft.campaign();
    const ready = node.takeReady();
    expect(ready.mustSync).toBe(true);
    expect(node.raft.role).toBe('candidate');
    node.completeWrite();
    expect(node.raft.role).toBe('leader');
  });
});

describe('§5.3 log replication', () => {
  test('the leader appends and sends in parallel, behind index and term of the entry before', () => {
    const node = lead();
    drain(node);
    acknowledge(node, 2n);
    acknowledge(node, 3n);
    node.raft.propose(utf8('x'));
    const ready = node.takeReady();
    expect(ready.entries).toMatchObject([{ term: 2, index: 3 }]);
    expect(ready.messages).toMatchObject([
      { type: MessageType.append, to: 2n, index: 2, logTerm: 2, commit: 2, entries: [{ term: 2, index: 3 }] },
      { type: MessageType.append, to: 3n, index: 2, logTerm: 2, commit: 2, entries: [{ term: 2, index: 3 }] },
    ]);
  });

  test.each([
    [1, [], true],
    [3, [], false],
    [3, [2], true],
    [5, [2], false],
    [5, [2, 5], true],
    [4, [2], false],
    [4, [2, 3], true],
  ])('of %i voters, acknowledged by %j and itself, an entry is committed: %s', (voters, acks, committed) => {
    const node = lead({ voters });
    drain(node);
    for (const id of acks) acknowledge(node, BigInt(id));
    expect(node.raft.commitIndex).toBe(committed ? 2 : 1);
  });

  test('a commit takes all entries before it along, those of earlier leaders included', () => {
    const node = lead({ term: 3, entries: log(1, 2, 3) });
    drain(node);
    acknowledge(node, 2n);
    expect(node.machine).toMatchObject({ applied: 5 });
  });

  test('followers learn the commit index with the next append, and apply in order', () => {
    const node = start();
    const entries = [entry(2, 2, 'a'), entry(2, 3, 'b')];
    step(node, MessageType.append, { index: 1, logTerm: 1, entries, commit: 1 });
    expect(node.machine.text).toBe('');
    step(node, MessageType.append, { index: 3, logTerm: 2, commit: 3 });
    expect(node.machine.text).toBe('|a|b');
  });

  test('a commit index that is held goes with the next append or heartbeat, or when it is let go', () => {
    const node = lead();
    drain(node);
    acknowledge(node, 2n);
    acknowledge(node, 3n);
    node.raft.holdCommit(true);
    node.raft.propose(utf8('x'));
    drain(node);
    expect([...acknowledge(node, 2n), ...acknowledge(node, 3n)]).toEqual([]);
    expect(node.raft.holdsCommit).toBe(true);
    node.raft.propose(utf8('y'));
    expect(drain(node)).toMatchObject([
      { to: 2n, index: 3, commit: 3 },
      { to: 3n, index: 3, commit: 3 },
    ]);
    expect(node.raft.holdsCommit).toBe(false);
    expect([...acknowledge(node, 2n), ...acknowledge(node, 3n)]).toEqual([]);
    node.raft.tick();
    expect(only(drain(node), MessageType.heartbeat)).toMatchObject([{ commit: 4 }, { commit: 4 }]);
    node.raft.propose(utf8('z'));
    drain(node);
    expect([...acknowledge(node, 2n), ...acknowledge(node, 3n)]).toEqual([]);
    node.raft.holdCommit(false);
    expect(drain(node)).toMatchObject([
      { type: MessageType.append, to: 2n, commit: 5, entries: [] },
      { type: MessageType.append, to: 3n, commit: 5, entries: [] },
    ]);
  });

  test('the commit index of a follower never passes the last entry that this leader has confirmed', () => {
    const node = start({ term: 2, entries: log(1, 1) });
    step(node, MessageType.append, { index: 2, logTerm: 1, commit: 3 });
    expect(node.raft.commitIndex).toBe(2);
  });

  test.each([
    [1, 1, true],
    [3, 2, true],
    [3, 1, false],
    [4, 2, false],
  ])('an append behind %i of term %i is accepted: %s', (index, logTerm, accepted) => {
    const node = start({ term: 2, entries: log(1, 2) });
    const [answer] = step(node, MessageType.append, { index, logTerm, entries: [entry(2, index + 1)] });
    expect(answer).toMatchObject({ type: MessageType.appendResponse, reject: !accepted });
  });

  // Figure 7: the leader's log is 1 1 1 4 4 5 5 6 6 6, then its own entry of term 8. (Here everything stands one index
  // later, behind the bootstrap's.)
  test.each([
    ['a', log(1, 1, 1, 4, 4, 5, 5, 6, 6)],
    ['b', log(1, 1, 1, 4)],
    ['c', log(1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6)],
    ['d', log(1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7)],
    ['e', log(1, 1, 1, 4, 4, 4, 4)],
    ['f', log(1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3)],
  ])('figure 7 (%s): the leader makes the log of a follower equal to its own', (_name, theirs) => {
    const mine = log(1, 1, 1, 4, 4, 5, 5, 6, 6, 6);
    const leader = lead({ term: 7, entries: mine });
    const follower = start({ term: 7, entries: theirs });
    let appends = 0;
    let toFollower = drain(leader).filter((m) => m.to === 2n);
    while (toFollower.length > 0) {
      appends += toFollower.length;
      const answers = toFollower.flatMap((m) => step(follower, m.type, { ...m, to: 1n, from: 2n }));
      toFollower = answers
        .flatMap((m) => step(leader, m.type, { ...m, to: 1n, from: 2n }))
        .filter((m) => m.to === 2n);
    }
    expect(follower.disk.entries.map((e) => e.term)).toEqual([...mine.map((e) => e.term), 8]);
    expect(leader.disk.entries.map((e) => e.term)).toEqual([...mine.map((e) => e.term), 8]);
    // Probes by term, not by index; the last two or three bring the entries and the commit index.
    expect(appends).toBeLessThanOrEqual(5);
  });

  test('a refusal names the last place where the logs can agree', () => {
    const node = start({ term: 3, entries: log(1, 2, 2, 2, 3) });
    const [answer] = step(node, MessageType.append, { term: 4, index: 9, logTerm: 2 });
    expect(answer).toMatchObject({ reject: true, index: 9, rejectHint: 5, logTerm: 2 });
  });

  test('a repeated or late append changes nothing, and takes nothing back', () => {
    const node = start();
    const append = { index: 1, logTerm: 1, entries: [entry(2, 2, 'a'), entry(2, 3, 'b')] };
    step(node, MessageType.append, append);
    step(node, MessageType.append, { ...append, entries: [entry(2, 2, 'a')] });
    expect(node.raft.lastIndex).toBe(3);
    const [answer] = step(node, MessageType.append, append);
    expect(answer).toMatchObject({ index: 3, reject: false });
  });

  test('an append is acknowledged only when it is on disk', () => {
    const node = start();
    node.raft.step(message(MessageType.append, { index: 1, logTerm: 1, entries: [entry(2, 2)] }));
    const ready = node.takeReady();
    expect(only(ready.messages, MessageType.appendResponse)).toEqual([]);
    expect(ready.afterPersist).toMatchObject([{ type: MessageType.appendResponse, index: 2 }]);
  });
});

describe('§5.4 safety', () => {
  test.each([
    [[1], 2, 1, true],
    [[1], 3, 1, true],
    [[1], 2, 2, true],
    [[2], 2, 1, false],
    [[2], 9, 1, false],
    [[1, 1], 2, 1, false],
    [[1, 2], 2, 2, false],
    [[1, 1], 2, 2, true],
  ])(
    '§5.4.1: with log %j a candidate whose last is %i of term %i gets the vote: %s',
    (terms, index, logTerm, granted) => {
      const node = start({ term: 2, entries: log(...terms) });
      const [answer] = step(node, MessageType.vote, { term: 3, index, logTerm });
      expect(answer).toMatchObject({ type: MessageType.voteResponse, term: 3, reject: !granted });
    },
  );

  test('§5.4.2: an entry of an older term is not committed by counting', () => {
    const node = lead({ term: 2, entries: log(1, 2) });
    drain(node);
    acknowledge(node, 2n, 3);
    expect(node.raft.commitIndex).toBe(1);
    acknowledge(node, 2n, 4);
    expect(node.raft.commitIndex).toBe(4);
  });
});

describe('§6 and thesis §4: membership', () => {
  test('thesis §4.1: one change at a time, and the next only when it is applied', () => {
    const node = lead({ voters: 1 });
    drain(node);
    expect(node.raft.proposeConfChange(change(['addVoter', 2n]))).toBe('ok');
    expect(node.raft.proposeConfChange(change(['addLearner', 3n]))).toBe('confChangePending');
    drain(node);
    expect(node.raft.confState.voters).toEqual([1n, 2n]);
    expect(node.raft.proposeConfChange(change(['addLearner', 3n]))).toBe('ok');
  });

  test('thesis §4.1: a new leader waits until everything before its term is applied', () => {
    const node = lead();
    drain(node);
    expect(node.raft.proposeConfChange(change(['addLearner', 4n]))).toBe('ok');
    const other = lead({ term: 2, entries: log(1, 2) });
    drain(other);
    expect(other.raft.proposeConfChange(change(['addLearner', 4n]))).toBe('confChangePending');
  });

  test('thesis §4.2.1: a learner gets the log and is not counted', () => {
    const node = lead({ voters: 1 });
    drain(node);
    node.raft.proposeConfChange(change(['addLearner', 2n]));
    expect(drain(node).some((m) => m.to === 2n)).toBe(true);
    node.raft.propose(utf8('x'));
    drain(node);
    expect(node.raft.commitIndex).toBe(node.raft.lastIndex);
  });

  test('thesis §4.2.3: who hears a leader ignores vote requests, unless the leader wants them', () => {
    const node = start();
    step(node, MessageType.heartbeat, { commit: 1 });
    const request = { from: 3n, term: 9, index: 5, logTerm: 2 };
    expect(step(node, MessageType.vote, request)).toEqual([]);
    expect(step(node, MessageType.preVote, request)).toEqual([]);
    expect(node.raft.term).toBe(2);
    expect(step(node, MessageType.vote, { ...request, force: true })).toMatchObject([
      { term: 9, reject: false },
    ]);
  });

  test('thesis §4.3: in joint consensus both majorities must have an entry, and both must elect', () => {
    const node = lead();
    drain(node);
    acknowledge(node, 2n);
    const swap = change(['addVoter', 4n], ['addVoter', 5n], ['removeNode', 2n], ['removeNode', 3n]);
    expect(node.raft.proposeConfChange({ ...swap, transition: 'joint' })).toBe('ok');
    drain(node);
    acknowledge(node, 2n);
    expect(node.raft.confState).toMatchObject({ voters: [1n, 4n, 5n], votersOutgoing: [1n, 2n, 3n] });
    node.raft.propose(utf8('x'));
    drain(node);
    acknowledge(node, 2n);
    acknowledge(node, 3n);
    expect(node.raft.commitIndex).toBe(3);
    acknowledge(node, 5n);
    expect(node.raft.commitIndex).toBe(4);
    node.raft.propose(utf8('y'));
    drain(node);
    acknowledge(node, 4n);
    acknowledge(node, 5n);
    expect(node.raft.commitIndex).toBe(4);
    acknowledge(node, 2n);
    expect(node.raft.commitIndex).toBe(5);

    node.flush();
    node.restart();
    node.raft.campaign();
    drain(node);
    for (const from of [4n, 5n]) step(node, MessageType.voteResponse, { from, term: 3 });
    expect(node.raft.role).toBe('candidate');
    step(node, MessageType.voteResponse, { from: 3n, term: 3 });
    expect(node.raft.role).toBe('leader');
  });
});

describe('§7 and thesis §5: snapshots', () => {
  const confState = {
    voters: [1n, 2n, 3n],
    votersOutgoing: [],
    learners: [],
    learnersNext: [],
    autoLeave: false,
  };
  const machine = { applied: 5, text: '|state', conf: confState };
  const snapshot = { index: 5, term: 2, confState };

  test('a snapshot replaces a log that does not have its last entry, and is acknowledged when it is installed', () => {
    const node = start({ term: 2, entries: log(1, 1) });
    node.step({ message: message(MessageType.snapshot, { term: 3, snapshot }), machine });
    const ready = node.takeReady();
    expect(ready).toMatchObject({ snapshot, entries: [], committed: [] });
    expect(ready.afterPersist).toMatchObject([{ type: MessageType.appendResponse, index: 5 }]);
    node.completeWrite();
    expect(node.raft).toMatchObject({ firstIndex: 6, lastIndex: 5, appliedIndex: 5 });
    expect(node.machine.text).toBe('|state');
  });

  test('a snapshot of what the log has keeps what follows it', () => {
    const node = start({ term: 2, entries: log(1, 1, 1, 2, 2) });
    node.step({ message: message(MessageType.snapshot, { term: 3, snapshot }), machine });
    expect(drain(node)).toMatchObject([{ type: MessageType.appendResponse, index: 5 }]);
    expect(node.raft).toMatchObject({ firstIndex: 2, lastIndex: 6, commitIndex: 5 });
  });

  test('a snapshot older than what is committed is ignored', () => {
    const node = start({ term: 2, commit: 6, entries: log(1, 1, 1, 2, 2) });
    node.step({ message: message(MessageType.snapshot, { term: 3, snapshot }), machine });
    expect(drain(node)).toMatchObject([{ index: 6 }]);
    expect(node.raft.lastIndex).toBe(6);
  });

  test('a snapshot of a cluster that this node is no member of is ignored', () => {
    const node = start({ term: 2 });
    const others = { ...confState, voters: [2n, 3n] };
    const stranger = { ...snapshot, confState: others };
    node.step({ message: message(MessageType.snapshot, { term: 3, snapshot: stranger }), machine });
    expect(drain(node)).toEqual([]);
    expect(node.raft.lastIndex).toBe(1);
  });

  test('the leader sends one where the log does not reach back, and appends behind it', () => {
    const node = lead();
    drain(node);
    acknowledge(node, 2n);
    node.compact(2);
    const [request] = only(step(node, MessageType.heartbeatResponse, { from: 3n }), MessageType.snapshot);
    expect(request).toMatchObject({ to: 3n, snapshot: { index: 2, term: 2 } });
    node.raft.propose(utf8('x'));
    expect(drain(node).filter((m) => m.to === 3n)).toEqual([]);
    node.raft.reportSnapshot(3n, true);
    expect(acknowledge(node, 3n, 2)).toMatchObject([{ to: 3n, index: 2, entries: [{ index: 3 }] }]);
  });
});

describe('thesis §3.8 to §10.2.1', () => {
  test('thesis §3.8: term, vote and log survive a crash; commit index and state are learnt or built again', () => {
    const node = lead();
    drain(node);
    acknowledge(node, 2n);
    node.restart();
    expect(node.raft.status()).toMatchObject({
      role: 'follower',
      term: 2,
      vote: 1n,
      lastIndex: 2,
      applied: 1,
    });
  });

  test('thesis §3.10: a transfer brings the target up to date, then tells it to campaign; no proposals meanwhile', () => {
    const node = lead();
    drain(node);
    acknowledge(node, 2n);
    expect(node.raft.transferLeadership(3n)).toBe('ok');
    expect(node.raft.propose(utf8('x'))).toBe('transferring');
    expect(only(drain(node), MessageType.timeoutNow)).toEqual([]);
    expect(only(acknowledge(node, 3n), MessageType.timeoutNow)).toMatchObject([{ to: 3n }]);
  });

  test('thesis §3.10: the target campaigns at once, overriding the leases of others', () => {
    const node = start();
    step(node, MessageType.heartbeat, { commit: 1 });
    expect(step(node, MessageType.timeoutNow, {})).toMatchObject([
      { type: MessageType.vote, term: 3, force: true },
      { type: MessageType.vote, term: 3, force: true },
    ]);
  });

  test('thesis §6.2: a leader without a quorum for electionTicks steps down', () => {
    const node = lead();
    drain(node);
    for (let i = 0; i < 20; i++) {
      node.raft.tick();
      if (i === 4) step(node, MessageType.heartbeatResponse, { from: 3n });
      if (i === 18) expect(node.raft.role).toBe('leader');
    }
    expect(node.raft.status()).toMatchObject({ role: 'follower', leader: 0n });
  });

  test('thesis §6.4: a read gets the commit index of when it came, after a heartbeat round that began later', () => {
    const node = lead();
    drain(node);
    acknowledge(node, 2n);
    node.raft.readIndex(77);
    const ready = node.takeReady();
    expect(ready.readStates).toEqual([]);
    const [beat] = only(ready.messages, MessageType.heartbeat);
    expect(beat!.context).toBeGreaterThan(0);
    // An answer to an earlier heartbeat confirms nothing.
    step(node, MessageType.heartbeatResponse, { from: 2n, context: 0 });
    step(node, MessageType.heartbeatResponse, { from: 3n, context: beat!.context - 1 });
    node.raft.step(message(MessageType.heartbeatResponse, { from: 3n, context: beat!.context }));
    expect(node.takeReady().readStates).toEqual([{ context: 77, index: 2 }]);
  });

  test('thesis §6.4: a leader begins its term with an entry, and answers no read before that is committed', () => {
    const node = lead();
    expect(node.takeReady().entries).toMatchObject([{ term: 2, index: 2, data: utf8('') }]);
    node.completeWrite();
    node.raft.readIndex(1);
    expect(node.raft.hasReady()).toBe(false);
    node.raft.step(message(MessageType.appendResponse, { index: 2 }));
    expect(only(node.takeReady().messages, MessageType.heartbeat)).toHaveLength(2);
  });

  test('thesis §9.6: a pre-vote changes neither term nor vote, of neither side', () => {
    const asker = start();
    asker.raft.campaign();
    expect(drain(asker)).toMatchObject([
      { type: MessageType.preVote, term: 2 },
      { type: MessageType.preVote, term: 2 },
    ]);
    expect(asker.raft.status()).toMatchObject({ role: 'preCandidate', term: 1, vote: 0n });
    const asked = start();
    expect(step(asked, MessageType.preVote, { term: 2, index: 1, logTerm: 1 })).toMatchObject([
      { type: MessageType.preVoteResponse, term: 2, reject: false },
    ]);
    expect(asked.raft.status()).toMatchObject({ term: 1, vote: 0n });
    step(asker, MessageType.preVoteResponse, { term: 2 });
    expect(asker.raft.status()).toMatchObject({ role: 'candidate', term: 2, vote: 1n });
  });

  test('thesis §10.2.1: the leader writes while it sends, and counts itself only when the write is done', () => {
    const node = lead({ voters: 2 });
    drain(node);
    acknowledge(node, 2n);
    node.raft.propose(utf8('x'));
    expect(node.takeReady().messages).toHaveLength(1);
    node.raft.step(message(MessageType.appendResponse, { index: 3 }));
    expect(node.raft.commitIndex).toBe(2);
    node.completeWrite();
    expect(node.raft.commitIndex).toBe(3);
    expect(node.takeReady().committed.map((e) => utf8Text(e.data))).toEqual(['x']);
  });

  test('thesis §10.2.2: appends are sent ahead of their answers, in batches of a turn', () => {
    const node = lead();
    drain(node);
    acknowledge(node, 2n);
    for (const text of ['a', 'b', 'c']) {
      node.raft.propose(utf8(text));
      node.raft.propose(utf8(text));
      const appends = drain(node).filter((m) => m.to === 2n);
      expect(appends).toHaveLength(1);
      expect(appends[0]!.entries).toHaveLength(2);
    }
    expect(acknowledge(node, 2n).filter((m) => m.to === 2n)).toMatchObject([{ entries: [], commit: 8 }]);
  });
});
