import { ConfigError, nearest, parseBool } from './values.ts';

interface Gate {
  readonly on: boolean;
  readonly stage: 'alpha' | 'beta';
  /** Quoin behaves as if the gate were so; undefined: either way, the gate's subject does not exist here. */
  readonly fixed: boolean | undefined;
}

const gates: Readonly<Record<string, Gate>> = {
  // Defragmenting never stops the world, so there is nothing to stop serving for.
  StopGRPCServiceOnDefrag: { on: false, stage: 'alpha', fixed: undefined },
  InitialCorruptCheck: { on: false, stage: 'alpha', fixed: false },
  CompactHashCheck: { on: false, stage: 'alpha', fixed: false },
  TxnModeWriteWithSharedBuffer: { on: true, stage: 'beta', fixed: undefined },
  LeaseCheckpoint: { on: false, stage: 'alpha', fixed: false },
  LeaseCheckpointPersist: { on: false, stage: 'alpha', fixed: false },
  SetMemberLocalAddr: { on: false, stage: 'alpha', fixed: false },
  FastLeaseKeepAlive: { on: true, stage: 'beta', fixed: undefined },
  PriorityRequest: { on: false, stage: 'alpha', fixed: false },
};

/**
 * Checks `A=true,B=false`: a gate may be set only to what Quoin does anyway.
 *
 * @throws ConfigError
 */
export function checkFeatureGates(settings: readonly string[], notices: string[]): void {
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
        if (spec.stage === stage) checkGate(gate, spec, value, notices);
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
    checkGate(name, gate, value, notices);
  }
}

function checkGate(name: string, gate: Gate, value: boolean, notices: string[]): void {
  if (gate.fixed === undefined) {
    if (value !== gate.on)
      notices.push(`--feature-gates ${name}=${value} has no effect: its subject does not exist here`);
  } else if (value !== gate.fixed) {
    throw new ConfigError(`--feature-gates ${name}=${value} is not supported: the feature is not built yet`);
  }
}
