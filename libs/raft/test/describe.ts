/** Raft's nouns as short text. Entries are term/index. */
import { utf8Text } from '@quoin/base';
import {
  ConfChangeType,
  type ConfState,
  decodeConfChange,
  type Entry,
  EntryType,
  type Message,
  MessageType,
  type NodeId,
  type RaftStatus,
  type Ready,
} from '../src/index.ts';

const typeNames = new Map(Object.entries(MessageType).map(([name, type]) => [type, name]));
const changeLetters = new Map<ConfChangeType, string>([
  [ConfChangeType.addVoter, 'v'],
  [ConfChangeType.removeNode, 'r'],
  [ConfChangeType.addLearner, 'l'],
]);

export function describeEntry(entry: Entry): string {
  const at = `${entry.term}/${entry.index}`;
  if (entry.type === EntryType.normal) {
    const text = utf8Text(entry.data);
    if (text.length > 20) return `${at} "${text.slice(0, 2)}…" (${text.length} bytes)`;
    return text === '' ? at : `${at} "${text}"`;
  }
  const cc = decodeConfChange(entry.data);
  const changes = cc.changes.map(({ type, node }) => `${changeLetters.get(type)}${node}`);
  if (changes.length === 0) changes.push('leave');
  if (cc.transition === 'joint') changes.unshift('joint');
  return `${at} conf(${changes.join(' ')})`;
}

function list(ids: readonly NodeId[]): string {
  return `(${ids.join(' ')})`;
}

export function describeConf(conf: ConfState): string {
  let text = `voters=${list(conf.voters)}`;
  if (conf.votersOutgoing.length > 0) text += `&&${list(conf.votersOutgoing)}`;
  if (conf.learners.length > 0) text += ` learners=${list(conf.learners)}`;
  if (conf.learnersNext.length > 0) text += ` learnersNext=${list(conf.learnersNext)}`;
  if (conf.autoLeave) text += ' autoLeave';
  return text;
}

export function describeMessage(m: Message): string {
  let text = `${m.from}→${m.to} ${typeNames.get(m.type)} term=${m.term}`;
  switch (m.type) {
    case MessageType.append:
      text += ` prev=${m.logTerm}/${m.index} commit=${m.commit} [${m.entries.map(describeEntry).join(', ')}]`;
      break;
    case MessageType.appendResponse:
      text += m.reject ? ` reject=${m.index} hint=${m.logTerm}/${m.rejectHint}` : ` index=${m.index}`;
      return text;
    case MessageType.vote:
    case MessageType.preVote:
      text += ` last=${m.logTerm}/${m.index}`;
      break;
    case MessageType.heartbeat:
      text += ` commit=${m.commit}`;
      break;
    case MessageType.readIndexResponse:
      text += ` index=${m.index}`;
      break;
  }
  if (m.reject && m.commit > 0) text += ` committed=${m.logTerm}/${m.commit}`;
  if (m.snapshot !== undefined) {
    text += ` snapshot=${m.snapshot.term}/${m.snapshot.index} ${describeConf(m.snapshot.confState)}`;
  }
  if (m.context !== 0) text += ` context=${m.context}`;
  if (m.force) text += ' force';
  if (m.reject) text += ' reject';
  return text;
}

export function describeReady(ready: Ready): string[] {
  const lines: string[] = [];
  const { softState, hardState, snapshot } = ready;
  if (softState !== undefined)
    lines.push(`${softState.role} term=${softState.term} leader=${softState.leader}`);
  if (hardState !== undefined) {
    lines.push(`hard term=${hardState.term} vote=${hardState.vote} commit=${hardState.commit}`);
  }
  if (snapshot !== undefined) {
    lines.push(`install ${snapshot.term}/${snapshot.index} ${describeConf(snapshot.confState)}`);
  }
  if (ready.entries.length > 0) lines.push(`write ${ready.entries.map(describeEntry).join(', ')}`);
  for (const m of ready.messages) lines.push(`send ${describeMessage(m)}`);
  for (const m of ready.afterPersist) lines.push(`then ${describeMessage(m)}`);
  if (ready.committed.length > 0) lines.push(`apply ${ready.committed.map(describeEntry).join(', ')}`);
  for (const read of ready.readStates) lines.push(`read ${read.context} at ${read.index}`);
  if (ready.droppedReads.length > 0) lines.push(`dropped reads ${ready.droppedReads.join(' ')}`);
  return lines;
}

export function describeStatus(status: RaftStatus): string[] {
  const { commit, applied, durableIndex, firstIndex, lastIndex } = status;
  const lines = [
    `${status.id}: ${status.role} term=${status.term} vote=${status.vote} leader=${status.leader} commit=${commit} ` +
      `applied=${applied} durable=${durableIndex} log=[${firstIndex},${lastIndex}] ${describeConf(status.confState)}`,
  ];
  for (const pr of status.progress) {
    let text = `  ${pr.id}: ${pr.state} match=${pr.match} next=${pr.next}`;
    if (pr.learner) text += ' learner';
    if (pr.paused) text += ' paused';
    if (!pr.recentActive) text += ' inactive';
    if (pr.inflightMessages > 0) text += ` inflight=${pr.inflightMessages}`;
    if (pr.pendingSnapshot > 0) text += ` snapshot=${pr.pendingSnapshot}`;
    lines.push(text);
  }
  return lines;
}
