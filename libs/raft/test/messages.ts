/** Short ways to make what tests step and propose. Node 1 is the one under test. */
import { utf8 } from '@quoin/base';
import {
  bootstrapState,
  type ConfChange,
  ConfChangeType,
  type Entry,
  EntryType,
  type Message,
  MessageType,
  type RaftOptions,
  type RaftState,
} from '../src/index.ts';
import { FixedRandom, TestNode } from './node.ts';

export function message(type: MessageType, fields: Partial<Message>): Message {
  return {
    type,
    from: 2n,
    to: 1n,
    term: 2,
    index: 0,
    logTerm: 0,
    commit: 0,
    entries: [],
    reject: false,
    rejectHint: 0,
    context: 0,
    force: false,
    snapshot: undefined,
    ...fields,
  };
}

export function entry(term: number, index: number, text = ''): Entry {
  return { term, index, type: EntryType.normal, data: utf8(text) };
}

/** Terms of entries from index 2 on (1 is the bootstrap's): `log(1, 1, 4)`. */
export function log(...terms: readonly number[]): Entry[] {
  return terms.map((term, i) => entry(term, i + 2));
}

export function change(...changes: [keyof typeof ConfChangeType, bigint][]): ConfChange {
  return {
    transition: 'auto',
    changes: changes.map(([type, node]) => ({ type: ConfChangeType[type], node })),
    context: utf8(''),
  };
}

interface Start {
  readonly voters?: number;
  readonly term?: number;
  readonly vote?: bigint;
  readonly commit?: number;
  readonly entries?: readonly Entry[];
  readonly options?: Partial<RaftOptions>;
}

/** Node 1 of `voters`. Its election timeout is 10 ticks + `random` of the options. */
export function start({
  voters = 3,
  term = 1,
  vote = 0n,
  commit = 1,
  entries = [],
  options = {},
}: Start = {}): TestNode {
  const ids = Array.from({ length: voters }, (_, i) => BigInt(i + 1));
  const state: RaftState = { ...bootstrapState(ids), hardState: { term, vote, commit }, entries };
  return new TestNode(1n, state, { random: new FixedRandom(0), ...options });
}

/** Takes all Readys and completes all writes; returns every message that was sent. */
export function drain(node: TestNode): Message[] {
  const sent: Message[] = [];
  while (node.raft.hasReady()) {
    sent.push(...node.takeReady().messages);
    while (node.writes.length > 0) sent.push(...node.completeWrite());
  }
  return sent;
}

export function step(node: TestNode, type: MessageType, fields: Partial<Message>): Message[] {
  node.raft.step(message(type, fields));
  return drain(node);
}

/** Node 1 as leader of the next term, with the votes of all others, its own entry not acknowledged by anybody. */
export function lead(settings: Start = {}): TestNode {
  const node = start({ ...settings, options: { preVote: false, ...settings.options } });
  node.raft.campaign();
  drain(node);
  const voters = node.raft.confState.voters.filter((id) => id !== 1n);
  for (const from of voters)
    node.raft.step(message(MessageType.voteResponse, { from, term: node.raft.term }));
  return node;
}

/** A peer acknowledges everything that the leader has. */
export function acknowledge(node: TestNode, from: bigint, index = node.raft.lastIndex): Message[] {
  return step(node, MessageType.appendResponse, { from, term: node.raft.term, index });
}
