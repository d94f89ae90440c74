import {
  Cluster,
  type MemberAddResponse,
  type MemberListResponse,
  type MemberPromoteResponse,
  type MemberRemoveResponse,
  type MemberUpdateResponse,
} from '@quoin/contracts/etcd';
import type { CallOptions, Int64 } from './options.ts';
import type { Transport } from './transport.ts';

/** Membership. Every call throws an EtcdError when it fails. */
export class ClusterClient {
  private readonly transport: Transport;

  constructor(transport: Transport) {
    this.transport = transport;
  }

  memberList(
    options: { serializable?: boolean | undefined } = {},
    call?: CallOptions,
  ): Promise<MemberListResponse> {
    return this.transport.unary(
      Cluster.method.memberList,
      { linearizable: options.serializable !== true },
      call,
    );
  }

  memberAdd(
    peerUrls: readonly string[],
    options: { learner?: boolean | undefined } = {},
    call?: CallOptions,
  ): Promise<MemberAddResponse> {
    return this.transport.unary(
      Cluster.method.memberAdd,
      { peerURLs: [...peerUrls], isLearner: options.learner ?? false },
      call,
    );
  }

  memberRemove(id: Int64, call?: CallOptions): Promise<MemberRemoveResponse> {
    return this.transport.unary(Cluster.method.memberRemove, { ID: BigInt(id) }, call);
  }

  memberUpdate(id: Int64, peerUrls: readonly string[], call?: CallOptions): Promise<MemberUpdateResponse> {
    return this.transport.unary(
      Cluster.method.memberUpdate,
      { ID: BigInt(id), peerURLs: [...peerUrls] },
      call,
    );
  }

  memberPromote(id: Int64, call?: CallOptions): Promise<MemberPromoteResponse> {
    return this.transport.unary(Cluster.method.memberPromote, { ID: BigInt(id) }, call);
  }
}
