/** What a member can say of itself to a probe. */
import type { Clock, HealthCheck, HealthParts } from '@quoin/base';
import { AlarmType, alarmName } from './alarms.ts';
import type { StateMachine } from './apply.ts';
import type { MemberConfig } from './config.ts';
import type { ReadIndex } from './read-index.ts';
import type { ReadyLoop } from './ready-loop.ts';

export interface MemberHealthParts {
  readonly config: MemberConfig;
  readonly clock: Clock;
  readonly machine: StateMachine;
  readonly reads: ReadIndex;
  readonly loop: ReadyLoop;
  readonly isLearner: () => boolean;
  /** Monotonic ms of the last tick. */
  readonly tickedMs: () => number;
}

export interface MemberHealth extends Pick<HealthParts, 'livez' | 'readyz' | 'health'> {
  /** Those among them that only a member can make; etcd's a gateway makes through the API, as clients do. */
  readonly own: Pick<HealthParts, 'livez' | 'readyz'>;
}

const anyKey = {
  key: new Uint8Array(1),
  rangeEnd: new Uint8Array(0),
  revision: 0,
  limit: 1,
  keysOnly: true,
  countOnly: true,
};

export function memberHealth(parts: MemberHealthParts): MemberHealth {
  const { config, clock, machine, loop } = parts;
  const serializable: HealthCheck = (done) => {
    const result = machine.store.range(anyKey);
    done(typeof result === 'string' ? result : undefined);
  };
  const linearizable: HealthCheck = (done) => linearize(parts, done);
  const check = (problem: () => string | undefined): HealthCheck => {
    return (done) => done(problem());
  };
  const raftLoop = check(() => {
    const silentMs = clock.monotonicMs() - parts.tickedMs();
    return silentMs > 2 * config.electionTimeoutMs ? `no tick for ${Math.round(silentMs)} ms` : undefined;
  });
  const wal = check(() => {
    const waitMs = loop.appendWaitMs;
    return waitMs > 2 * config.electionTimeoutMs
      ? `an append waits for the disk since ${Math.round(waitMs)} ms`
      : undefined;
  });
  const own = {
    livez: { raft_loop: raftLoop },
    readyz: {
      apply_lag: check(() =>
        loop.applyGap > config.maxApplyGap ? `${loop.applyGap} entries are not applied yet` : undefined,
      ),
      raft_loop: raftLoop,
      wal,
    },
  };
  return {
    own,
    livez: { serializable_read: serializable, ...own.livez },
    readyz: {
      data_corruption: check(() =>
        machine.alarms.has(AlarmType.corrupt) ? 'alarm activated: CORRUPT' : undefined,
      ),
      serializable_read: serializable,
      linearizable_read: linearizable,
      non_learner: check(() => (parts.isLearner() ? 'not supported for learner' : undefined)),
      ...own.readyz,
    },
    health: (query, done) => {
      const alarm = machine.alarms
        .list(AlarmType.none)
        .map(({ type }) => alarmName(type))
        .find((name) => !query.excluded.includes(name));
      if (alarm !== undefined) done(`ALARM ${alarm}`);
      else if (!query.serializable && loop.softState.leader === 0n) done('RAFT NO LEADER');
      else {
        (query.serializable ? serializable : linearizable)((problem) =>
          done(problem === undefined ? '' : `RANGE ERROR:${problem}`),
        );
      }
    },
  };
}

/** Ends when a quorum has confirmed how far the log is committed, and this member has applied so far. */
function linearize(
  { config, clock, reads, loop }: MemberHealthParts,
  done: Parameters<HealthCheck>[0],
): void {
  reads.add({
    deadlineMs: clock.monotonicMs() + config.requestTimeoutMs,
    trace: undefined,
    caller: 'member',
    serve: () => done(undefined),
    reply: () => {},
    fail: (status) => done(status.message),
    notTaken: () => {},
  });
  loop.wake();
}
