import {
  AlarmRequest_AlarmAction,
  type AlarmResponse,
  AlarmType,
  type DefragmentResponse,
  DowngradeRequest_DowngradeAction,
  type DowngradeResponse,
  type HashKVResponse,
  Maintenance,
  type MoveLeaderResponse,
  type SnapshotResponse,
  type StatusResponse,
} from '@quoin/contracts/etcd';
import type { CallOptions, Int64 } from './options.ts';
import type { Transport } from './transport.ts';

const downgradeActions = {
  validate: DowngradeRequest_DowngradeAction.VALIDATE,
  enable: DowngradeRequest_DowngradeAction.ENABLE,
  cancel: DowngradeRequest_DowngradeAction.CANCEL,
} as const;

/** Calls about one member: give `endpoint` in the call options, else any endpoint answers. */
export class MaintenanceClient {
  private readonly transport: Transport;

  constructor(transport: Transport) {
    this.transport = transport;
  }

  status(call?: CallOptions): Promise<StatusResponse> {
    return this.transport.unary(Maintenance.method.status, {}, call);
  }

  /** `revision` 0 = the latest. */
  hashKv(revision: Int64 = 0, call?: CallOptions): Promise<HashKVResponse> {
    return this.transport.unary(Maintenance.method.hashKV, { revision: BigInt(revision) }, call);
  }

  alarms(call?: CallOptions): Promise<AlarmResponse> {
    return this.transport.unary(
      Maintenance.method.alarm,
      { action: AlarmRequest_AlarmAction.GET, memberID: 0n, alarm: AlarmType.NONE },
      { ...call, idempotent: true },
    );
  }

  /** Member 0 and NONE stand for all. */
  alarmDisarm(memberId: Int64, alarm: AlarmType, call?: CallOptions): Promise<AlarmResponse> {
    const request = { action: AlarmRequest_AlarmAction.DEACTIVATE, memberID: BigInt(memberId), alarm };
    return this.transport.unary(Maintenance.method.alarm, request, call);
  }

  defragment(call?: CallOptions): Promise<DefragmentResponse> {
    return this.transport.unary(Maintenance.method.defragment, {}, call);
  }

  /** Must reach the leader. */
  moveLeader(target: Int64, call?: CallOptions): Promise<MoveLeaderResponse> {
    return this.transport.unary(Maintenance.method.moveLeader, { targetID: BigInt(target) }, call);
  }

  /** `version` such as `3.6`; cancel takes none. */
  downgrade(
    action: 'validate' | 'enable' | 'cancel',
    version = '',
    call?: CallOptions,
  ): Promise<DowngradeResponse> {
    const request = { action: downgradeActions[action], version };
    return this.transport.unary(Maintenance.method.downgrade, request, call);
  }

  /** The parts of an etcd snapshot file: the blobs one after the other are the file, 32 bytes of SHA-256 at its end. */
  snapshot(call?: CallOptions): AsyncGenerator<SnapshotResponse, void, undefined> {
    return this.transport.serverStream(Maintenance.method.snapshot, {}, call);
  }
}
