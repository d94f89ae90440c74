/** The mutants: what each breaks, and which real bug it is modelled on. */

export interface Mutant {
  readonly name: string;
  /** What goes wrong, and where such a thing happened. */
  readonly about: string;
  /** From the root of the repository. */
  readonly file: string;
  /** Occurs exactly once in the file. */
  readonly find: string;
  readonly replace: string;
}

const raft = 'libs/raft/src/raft.ts';

export const mutants: readonly Mutant[] = [
  {
    name: 'vote-not-persisted',
    about: 'A restarted node has forgotten whom it voted for, and votes again in the same term (Raft §5.2).',
    file: raft,
    find: 'return { term: this.emittedTerm, vote: this.emittedVote, commit: this.emittedCommit };',
    replace: 'return { term: this.emittedTerm, vote: noNode, commit: this.emittedCommit };',
  },
  {
    name: 'vote-twice',
    about: 'A vote is given to whoever asks, also when it was given already.',
    file: raft,
    find: 'const granted = free && this.log.isUpToDate(m.index, m.logTerm) && !(pre',
    replace: 'const granted = (free || !pre) && this.log.isUpToDate(m.index, m.logTerm) && !(pre',
  },
  {
    name: 'no-election-restriction',
    about: 'A node with an outdated log is voted for (Raft §5.4.1).',
    file: raft,
    find: 'const granted = free && this.log.isUpToDate(m.index, m.logTerm) && !(pre',
    replace: 'const granted = free && !(pre',
  },
  {
    name: 'commit-of-older-term',
    about: 'A leader counts replicas of entries of older terms (Raft §5.4.2, figure 8).',
    file: raft,
    find: 'if (index <= this.log.commit || this.log.term(index) !== this.currentTerm) return;',
    replace: 'if (index <= this.log.commit) return;',
  },
  {
    name: 'no-log-matching',
    about: "A follower appends behind an entry that is not the leader's (Raft §5.3).",
    file: raft,
    find: 'if (log.term(m.index) === m.logTerm) {',
    replace: 'if (log.term(m.index) >= 0) {',
  },
  {
    name: 'read-without-quorum',
    about:
      'A leader answers reads without asking whether it still leads; a paused one serves stale reads (etcd 20418).',
    file: raft,
    find: 'if (readOnly.hasQueued() && (this.isAloneQuorum() || this.hasLease())) {',
    replace: 'if (readOnly.hasQueued()) {',
  },
  {
    name: 'lease-without-end',
    about: 'With lease reads a leader that was stopped goes on as if its lease had not run out meanwhile.',
    file: raft,
    find: 'return lease.nowMs() < this.leaseUntilMs;',
    replace: 'return this.leaseUntilMs > 0;',
  },
  {
    name: 'read-before-own-term',
    about: 'A new leader answers reads from a commit index that may be behind its predecessor (thesis §6.4).',
    file: raft,
    find: "return this.currentRole === 'leader' && this.log.term(this.log.commit) === this.currentTerm;",
    replace: "return this.currentRole === 'leader';",
  },
  {
    name: 'read-number-used-again',
    about: 'All attempts have one number: an answer that was under way confirms a later read (etcd 20418).',
    file: 'libs/member/src/read-index.ts',
    find: 'round.context = this.nextContext++;',
    replace: 'round.context = 1;',
  },
  {
    name: 'read-before-apply',
    about: 'A member serves a confirmed read before it has applied that far.',
    file: 'libs/member/src/read-index.ts',
    find: 'top !== undefined && top.index <= index;',
    replace: 'top !== undefined;',
  },
  {
    name: 'ack-before-fsync',
    about: 'The log says durable when the write has ended, without a sync.',
    file: 'libs/wal/src/wal.ts',
    find: 'if (!topUp && this.pending.length > 0) this.writeGroup([], true);\n      else this.sync(() => this.groupDone());',
    replace:
      'if (!topUp && this.pending.length > 0) this.writeGroup([], true);\n      else this.groupDone();',
  },
  {
    name: 'cache-taken-for-disk',
    about:
      'After a failed fsync the next life goes on from bytes that only the kernel has (found here, seed 27).',
    file: 'libs/wal/src/recovery.ts',
    find: 'this.rewrite(target, path, end.synced, end.offset, () =>\n',
    replace: 'this.rewrite(target, path, end.offset, end.offset, () =>\n',
  },
  {
    name: 'applied-index-not-atomic',
    about:
      'The applied index is written before the data: a crash between them loses entries (etcd 13766, 14370).',
    file: 'libs/mvcc/src/state.ts',
    find: '    if (!this.log.close(state)) this.backend.put(stateKey, state);\n',
    replace: '    this.backend.put(stateKey, state);\n    this.log.close(state);\n',
  },
  {
    name: 'entry-applied-twice',
    about: 'After a restart the last applied entry is applied again (etcd 14571, 15247).',
    file: 'libs/member/src/recovery.ts',
    find: '    applied,\n    confState: membership.confState,\n  };',
    replace: '    applied: Math.max(applied - 1, start.index),\n    confState: membership.confState,\n  };',
  },
  {
    name: 'log-released-too-far',
    about:
      'Segments are released up to the applied index, whether or not the store has been flushed that far.',
    file: 'libs/member/src/upkeep.ts',
    find: 'target = Math.min(target, this.flushedIndex, holdIndex());',
    replace: 'target = this.parts.store().appliedIndex;',
  },
  {
    name: 'snapshot-loses-a-lease',
    about:
      'A received snapshot lacks the attachments of keys to leases (etcd 14685: a state that was not whole).',
    file: 'libs/mvcc/src/snapshot.ts',
    find: '      else this.add(key, value);',
    replace: '      else if (key[0] !== prefix.lease) this.add(key, value);',
  },
  {
    name: 'compaction-takes-live-revision',
    about: 'A version that is still alive at the compact revision is removed.',
    file: 'libs/mvcc/src/compaction.ts',
    find: 'if (historyEnd(chain.value, i) > target) {',
    replace: 'if (historyEnd(chain.value, i) > target + 4) {',
  },
  {
    name: 'watch-resumes-one-late',
    about: 'A feed that was lost is subscribed again one revision too late (etcd 17247, 18089).',
    file: 'libs/gateway/src/watch-hub.ts',
    find: 'home.subscribe(this.feed.id, this.revision + 1, prevKv);',
    replace: 'home.subscribe(this.feed.id, this.revision + 2, prevKv);',
  },
  {
    name: 'history-page-too-far',
    about: 'A watcher that reads history skips the revision after each page.',
    file: 'libs/gateway/src/watch-catch-up.ts',
    find: '    watcher.next = nextRevision;',
    replace: '    watcher.next = nextRevision + 1;',
  },
  {
    name: 'bookmark-before-events',
    about: 'A progress notification is sent to a watcher that has not had everything (etcd 15220).',
    file: 'libs/gateway/src/watch-stream.ts',
    find: 'if (!watcher.busy && !this.congested && this.hub.isSynced(watcher))',
    replace: 'if (!watcher.busy)',
  },
  {
    name: 'write-sent-twice',
    about: 'A put whose connection broke is sent again, and happens twice (etcd client retries, 18667).',
    file: 'libs/gateway/src/gateway.ts',
    find: "[Method.put]: route(Method.put, 'leader', false),",
    replace: "[Method.put]: route(Method.put, 'leader', true),",
  },
  {
    name: 'lease-not-extended',
    about:
      'A new leader counts leases from when they were granted, and ends those that were kept alive (etcd 15247).',
    file: 'libs/member/src/lessor.ts',
    find: '      lease.expiryMs = promotedMs + seconds * 1_000 + this.options.electionTimeoutMs;\n',
    replace: '',
  },
  {
    name: 'lease-leaves-a-key',
    about: 'The end of a lease leaves one of its keys behind.',
    file: 'libs/member/src/apply.ts',
    find: 'for (const key of keys) write.deleteRange(key, noReply, false);',
    replace: 'for (const key of keys.slice(1)) write.deleteRange(key, noReply, false);',
  },
  {
    name: 'state-depends-on-member',
    about: 'What is applied depends on who applies it, so that members drift apart (etcd 13766).',
    file: 'libs/member/src/apply.ts',
    find: 'leaseRecord(Math.max(ttl, 0), 0)',
    replace: 'leaseRecord(Math.max(ttl, 0) + Number(this.options.memberId & 1n), 0)',
  },
  {
    name: 'rights-not-judged-at-apply',
    about: 'Rights are looked at when a put is proposed, and not again when it is applied.',
    file: 'libs/member/src/apply.ts',
    find: 'if (denied !== undefined) return denied;\n    }\n    const cost = putCost(put);',
    replace: '}\n    const cost = putCost(put);',
  },
  {
    name: 'rights-not-judged-at-read',
    about: 'Rights are looked at when a read comes, and not again by the state that it is answered from.',
    file: 'libs/member/src/requests.ts',
    find: "if (this.parts.machine.auth.enabled || call.standing === 'doubted') this.serveChecked(call);",
    replace: "if (call.standing === 'doubted') this.serveChecked(call);",
  },
  {
    name: 'refused-by-a-cached-view',
    about: 'A gateway refuses by the rights that it knows, without asking whether there are newer ones.',
    file: 'libs/gateway/src/auth-guard.ts',
    find: 'else this.sync(() => this.judgeAgain(context, judge, verdict));',
    replace: 'else verdict(refusal, credential, caller);',
  },
  {
    name: 'refused-by-who-lags',
    about: 'A member that is behind refuses for good by what it knows.',
    file: 'libs/member/src/auth-requests.ts',
    find: "if (call.standing === 'settled') return call.fail(problem);",
    replace: 'if (problem.code >= 0) return call.fail(problem);',
  },
  {
    name: 'token-outlives-its-password',
    about: 'Tokens are valid after the password was changed, or the user added anew.',
    file: 'libs/member/src/auth-requests.ts',
    find: 'user === undefined || claims.authRevision < user.since ? undefined : claims;',
    replace: 'user === undefined ? undefined : claims;',
  },
  {
    name: 'token-key-kept',
    about: 'Tokens of an earlier time with authentication are valid again.',
    file: 'libs/member/src/auth-store.ts',
    find: 'this.tokenKey = tokenKey.slice();\n    this.changed',
    replace: 'if (this.tokenKey.length === 0) this.tokenKey = tokenKey.slice();\n    this.changed',
  },
];
