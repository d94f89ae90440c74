import { type LeaseClock, Raft } from '@quoin/raft';
import type { MemberConfig } from './config.ts';
import type { MemberPorts } from './ports.ts';
import type { MemberState } from './recovery.ts';
import { leaseMs, tickLength } from './ticker.ts';

/** Consensus as it goes on from what the log held. */
export function openRaft(config: MemberConfig, ports: MemberPorts, state: MemberState): Raft {
  const { ticksPerHeartbeat, tickMs } = tickLength(config.heartbeatIntervalMs);
  return new Raft(
    {
      id: state.memberId,
      random: ports.random,
      electionTicks: Math.round(config.electionTimeoutMs / tickMs),
      heartbeatTicks: ticksPerHeartbeat,
      preVote: config.preVote,
      lease: leaseClock(config, ports),
      maxEntryBytesPerMessage: config.maxLogEntriesPerMessageBytes,
    },
    state.raft,
  );
}

/** The monotonic clock goes on while the process is stopped. A machine's suspension it does not count: the flag's help says so. */
function leaseClock(config: MemberConfig, ports: MemberPorts): LeaseClock | undefined {
  if (!config.leaseReads) return undefined;
  return {
    nowMs: () => ports.clock.monotonicMs(),
    leaseMs: leaseMs(config.heartbeatIntervalMs, config.electionTimeoutMs),
  };
}
