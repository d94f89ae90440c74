/**
 * Membership changes as pure functions from one ConfState to the next.
 *
 *              one change                       several, or asked for
 *     simple ─────────────► simple     simple ────────────────────────► joint ── leave ──► simple
 *                                               voters → outgoing             outgoing := ∅
 *                                               voters := changed             learnersNext → learners
 *
 * A simple change moves at most one voter, so that every old majority meets every new one (thesis §4.1). Anything
 * more goes through joint consensus, where both majorities must agree (thesis §4.3).
 */
import { assert, emptyBytes, hexId, readU64BE, writeU64BE } from '@quoin/base';
import { type ConfChange, ConfChangeType, type ConfState, type NodeId, noNode } from './types.ts';

/** A change that the membership at hand does not allow. The text is for people. */
export class ConfChangeError extends Error {
  override readonly name = 'ConfChangeError';
}

export const emptyConfState: ConfState = {
  voters: [],
  votersOutgoing: [],
  learners: [],
  learnersNext: [],
  autoLeave: false,
};

/** A change without changes: it leaves joint consensus. */
export const leaveJointChange: ConfChange = { transition: 'auto', changes: [], context: emptyBytes };

export function isJoint(conf: ConfState): boolean {
  return conf.votersOutgoing.length > 0;
}

/** A voter in either half. */
export function isVoter(conf: ConfState, id: NodeId): boolean {
  return conf.voters.includes(id) || conf.votersOutgoing.includes(id);
}

/** The membership after `cc`. @throws ConfChangeError */
export function changeConf(conf: ConfState, cc: ConfChange): ConfState {
  if (cc.changes.length === 0) return leaveJoint(conf);
  if (isJoint(conf)) throw new ConfChangeError('leave joint consensus before the next change');
  const joint = cc.transition === 'joint' || cc.changes.length > 1;
  const next = joint ? enterJoint(conf, cc) : changeOne(conf, cc);
  checkInvariants(next);
  return next;
}

function changeOne(conf: ConfState, cc: ConfChange): ConfState {
  const draft = new Draft(conf);
  draft.change(cc);
  let moved = 0;
  for (const id of conf.voters) if (!draft.voters.has(id)) moved++;
  for (const id of draft.voters) if (!conf.voters.includes(id)) moved++;
  assert(moved <= 1, 'one change moved more than one voter');
  return draft.done(false);
}

function enterJoint(conf: ConfState, cc: ConfChange): ConfState {
  if (conf.voters.length === 0) throw new ConfChangeError('no voters to leave behind');
  const draft = new Draft(conf);
  for (const id of conf.voters) draft.outgoing.add(id);
  draft.change(cc);
  return draft.done(cc.transition === 'auto');
}

function leaveJoint(conf: ConfState): ConfState {
  if (!isJoint(conf)) throw new ConfChangeError('not in joint consensus');
  const draft = new Draft(conf);
  for (const id of draft.learnersNext) draft.learners.add(id);
  draft.learnersNext.clear();
  draft.outgoing.clear();
  const next = draft.done(false);
  checkInvariants(next);
  return next;
}

class Draft {
  readonly voters: Set<NodeId>;
  readonly outgoing: Set<NodeId>;
  readonly learners: Set<NodeId>;
  readonly learnersNext: Set<NodeId>;

  constructor(conf: ConfState) {
    this.voters = new Set(conf.voters);
    this.outgoing = new Set(conf.votersOutgoing);
    this.learners = new Set(conf.learners);
    this.learnersNext = new Set(conf.learnersNext);
  }

  change(cc: ConfChange): void {
    for (const { type, node } of cc.changes) {
      if (node === noNode) throw new ConfChangeError('a change without a node');
      if (type === ConfChangeType.addVoter) this.addVoter(node);
      else if (type === ConfChangeType.addLearner) this.addLearner(node);
      else if (type === ConfChangeType.removeNode) this.remove(node);
      else throw new ConfChangeError(`unknown change ${type as number} of node ${hexId(node)}`);
    }
    if (this.voters.size === 0) throw new ConfChangeError('no voter would be left');
  }

  private addVoter(node: NodeId): void {
    this.learners.delete(node);
    this.learnersNext.delete(node);
    this.voters.add(node);
  }

  /**
   * A voter that is demoted inside a joint change still votes in the outgoing half, and no node is voter and learner
   * at once (it would be counted where it must not be): so it waits in learnersNext until the change is left.
   */
  private addLearner(node: NodeId): void {
    this.voters.delete(node);
    if (this.outgoing.has(node)) this.learnersNext.add(node);
    else this.learners.add(node);
  }

  private remove(node: NodeId): void {
    this.voters.delete(node);
    this.learners.delete(node);
    this.learnersNext.delete(node);
  }

  done(autoLeave: boolean): ConfState {
    return {
      voters: sorted(this.voters),
      votersOutgoing: sorted(this.outgoing),
      learners: sorted(this.learners),
      learnersNext: sorted(this.learnersNext),
      autoLeave,
    };
  }
}

function sorted(ids: Set<NodeId>): NodeId[] {
  return [...ids].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
}

/** @throws AssertionError where a ConfState contradicts itself. */
export function checkInvariants(conf: ConfState): void {
  for (const id of conf.learners) {
    assert(!isVoter(conf, id), () => `node ${hexId(id)} is voter and learner`);
  }
  for (const id of conf.learnersNext) {
    assert(
      conf.votersOutgoing.includes(id),
      () => `node ${hexId(id)} waits to be a learner and is no outgoing voter`,
    );
    assert(!conf.voters.includes(id), () => `node ${hexId(id)} is to stay voter and to become learner`);
  }
  assert(isJoint(conf) || !conf.autoLeave, 'autoLeave outside joint consensus');
}

// The data of a confChange entry:
//
//     | version 1 | transition | count u16 | count × (type u8, node u64) | context … |      big-endian
//
// Written to logs: a new layout needs a new version number.
const version = 1;
const headBytes = 4;
const changeBytes = 9;

/** The data of a `confChange` entry. */
export function encodeConfChange(cc: ConfChange): Uint8Array {
  const count = cc.changes.length;
  const out = new Uint8Array(headBytes + count * changeBytes + cc.context.length);
  out[0] = version;
  out[1] = cc.transition === 'joint' ? 1 : 0;
  out[2] = count >>> 8;
  out[3] = count;
  let at = headBytes;
  for (const { type, node } of cc.changes) {
    out[at] = type;
    writeU64BE(out, at + 1, node);
    at += changeBytes;
  }
  out.set(cc.context, at);
  return out;
}

/** @throws Error on bytes that `encodeConfChange` did not make. */
export function decodeConfChange(data: Uint8Array): ConfChange {
  if (data.length < headBytes || data[0] !== version || data[1]! > 1) {
    throw new Error('not a membership change, or one of a newer version');
  }
  const count = (data[2]! << 8) | data[3]!;
  const end = headBytes + count * changeBytes;
  if (data.length < end) throw new Error('truncated membership change');
  const changes: { type: ConfChangeType; node: NodeId }[] = [];
  for (let at = headBytes; at < end; at += changeBytes) {
    const type = data[at]!;
    if (type > ConfChangeType.addLearner) throw new Error(`unknown change type ${type}`);
    changes.push({ type: type as ConfChangeType, node: readU64BE(data, at + 1) });
  }
  return { transition: data[1] === 1 ? 'joint' : 'auto', changes, context: data.subarray(end) };
}
