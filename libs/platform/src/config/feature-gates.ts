import { ConfigError, nearest, parseBool } from './values.ts';

interface Gate {
  readonly on: boolean;
  readonly stage: 'alpha' | 'beta';
  /**
   * Quoin behaves as if the gate were so; undefined: either way, the gate's subject does not exist here; `free`: as it
   * is set.
   */
  readonly fixed: boolean | 'free' | undefined;
}

const gates: Readonly<Record<string, Gate>> = {
  // Defragmenting never stops the world, so there is nothing to stop serving for.
  StopGRPCServiceOnDefrag: { on: false, stage: 'alpha', fixed: undefined },
  InitialCorruptCheck: { on: false, stage: 'alpha', fixed: 'free' },
  // States are compared as a whole, which says more: --corrupt-check-time.
  CompactHashCheck: { on: false, stage: 'alpha', fixed: undefined },
  TxnModeWriteWithSharedBuffer: { on: true, stage: 'beta', fixed: undefined },
  LeaseCheckpoint: { on: false, stage: 'alpha', fixed: 'free' },
  LeaseCheckpointPersist: { on: false, stage: 'alpha', fixed: 'free' },
  SetMemberLocalAddr: { on: false, stage: 'alpha', fixed: false },
  FastLeaseKeepAlive: { on: true, stage: 'beta', fixed: undefined },
  PriorityRequest: { on: false, stage: 'alpha', fixed: false },
};

/** The gates that make a difference. */
export interface FeatureGates {
  readonly InitialCorruptCheck: boolean;
  /** What is left of leases outlives the leader; checkpoints are always kept, so the second gate adds nothing. */
  readonly LeaseCheckpoint: boolean;
  readonly LeaseCheckpointPersist: boolean;
}

/**
 * Reads `A=true,B=false`: a gate that is not free may be set only to what Quoin does anyway.
 *
 * @throws ConfigError
 */
export function featureGates(settings: readonly string[], notices: string[]): FeatureGates {
  const values = { InitialCorruptCheck: false, LeaseCheckpoint: false, LeaseCheckpointPersist: false };
  for (const setting of settings) {
    const [name, text] = setting.split('=');
    const value = parseBool(text ?? '');
    if (name === undefined || name === '' || value === undefined) {
      throw new ConfigError(
        `invalid value "${setting}" for flag --feature-gates: must be Gate=true or Gate=false`,
      );
    }
    if (name === 'AllAlpha' || name === 'AllBeta') {
      const stage = name === 'AllAlpha' ? 'alpha' : 'beta';
      for (const [gate, spec] of Object.entries(gates)) {
        if (spec.stage === stage) setGate(gate, spec, value, notices, values);
      }
      continue;
    }
    const gate = gates[name];
    if (gate === undefined) {
      const near = nearest(name, Object.keys(gates));
      throw new ConfigError(
        `unrecognized feature gate: ${name}${near === undefined ? '' : ` (did you mean ${near}?)`}`,
      );
    }
    setGate(name, gate, value, notices, values);
  }
  if (values.LeaseCheckpointPersist && !values.LeaseCheckpoint) {
    throw new ConfigError('--feature-gates LeaseCheckpointPersist=true needs LeaseCheckpoint=true');
  }
  return values;
}

/** Every gate as it is in force, with its stage as etcd writes it. */
export function gateStates(values: FeatureGates): { name: string; stage: string; on: boolean }[] {
  const set: Readonly<Record<string, boolean>> = { ...values };
  const all = Object.entries(gates).map(([name, { on, stage }]) => ({
    name,
    stage: stage.toUpperCase(),
    on: set[name] ?? on,
  }));
  const group = (stage: string): boolean => all.every((gate) => gate.stage !== stage || gate.on);
  return [
    ...all,
    { name: 'AllAlpha', stage: 'ALPHA', on: group('ALPHA') },
    { name: 'AllBeta', stage: 'BETA', on: group('BETA') },
  ];
}

function setGate(
  name: string,
  gate: Gate,
  value: boolean,
  notices: string[],
  values: Record<string, boolean>,
): void {
  if (gate.fixed === 'free') values[name] = value;
  else if (gate.fixed === undefined) {
    if (value !== gate.on)
      notices.push(`--feature-gates ${name}=${value} has no effect: its subject does not exist here`);
  } else if (value !== gate.fixed) {
    throw new ConfigError(`--feature-gates ${name}=${value} is not supported: the feature is not built yet`);
  }
}
