import type { Message, MessageType } from '@quoin/raft';

/** A message of which the sender fills in what its type uses. */
export function blankMessage(type: MessageType, from: bigint, to: bigint): Message {
  return {
    type,
    from,
    to,
    term: 0,
    index: 0,
    logTerm: 0,
    commit: 0,
    entries: [],
    reject: false,
    rejectHint: 0,
    context: 0,
    force: false,
    snapshot: undefined,
  };
}
