/**
 * The messages of the gateway link (proto/internal/v1/link.proto, which says what each field means) as plain objects.
 * Counters are numbers below 2^53, fixed64 ids bigint, bytes views into what was decoded, an absent message undefined.
 */

/** Gateway to member: all that one turn of the gateway has for it. */
export interface LinkUp {
  readonly hello: LinkHello | undefined;
  readonly requests: readonly LinkRequest[];
  readonly subscribes: readonly FeedSubscribe[];
  /** Ids of requests that nobody waits for any more. */
  readonly cancels: readonly number[];
  readonly credits: readonly Credit[];
}

export interface LinkHello {
  readonly protocol: number;
  readonly gateway: string;
  /** 0n: not known yet. */
  readonly clusterId: bigint;
  /** Where clients reach the gateway; none: not said. */
  readonly clientUrls: readonly string[];
}

export interface LinkRequest {
  /** Unique on the stream, from 1. */
  readonly id: number;
  /** A `Method`; a number that is not in the table comes from a newer peer. */
  readonly method: number;
  /** The client's request bytes, untouched. */
  readonly body: Uint8Array;
  /** What is left of the client's deadline; 0: the member's own limit. */
  readonly timeoutMs: number;
  /** 25 bytes when sampled, else empty. */
  readonly trace: Uint8Array;
  readonly token: string;
  /** Common name of the client's certificate, where there is no token; else empty. */
  readonly certUser: string;
  /** The gateway asks for itself. */
  readonly own: boolean;
}

export interface FeedSubscribe {
  readonly feed: number;
  /** 0: the one after the current. */
  readonly fromRevision: number;
  readonly prevKv: boolean;
  readonly cancel: boolean;
}

export interface Credit {
  readonly id: number;
  /** `id` is a feed's, not a request's. */
  readonly feed: boolean;
  readonly bytes: number;
}

/** Member to gateway: all that one turn of the member has for it. */
export interface LinkDown {
  readonly welcome: LinkWelcome | undefined;
  readonly replies: readonly LinkReply[];
  readonly state: MemberState | undefined;
  readonly feeds: readonly FeedBatch[];
  /** An encoded AuthView; empty: as before. */
  readonly auth: Uint8Array;
}

export interface LinkWelcome {
  readonly protocol: number;
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly name: string;
  /** Empty: not said. */
  readonly zone: string;
}

export interface LinkReply {
  readonly id: number;
  /** gRPC status code; 0 = OK. */
  readonly code: number;
  readonly message: string;
  /** The client's response, whole, or its next part. */
  readonly body: Uint8Array;
  /** More parts follow. */
  readonly more: boolean;
  /** The request had no effect and never will. */
  readonly notTaken: boolean;
  /** With the first part, where it is known by then: bytes of all parts together. Else 0. */
  readonly totalBytes: number;
}

export interface MemberState {
  /** 0n: no leader known. */
  readonly leader: bigint;
  readonly term: number;
  readonly revision: number;
  readonly compactRevision: number;
  readonly appliedIndex: number;
  readonly learner: boolean;
  readonly members: readonly MemberInfo[];
}

export interface MemberInfo {
  readonly id: bigint;
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
  readonly learner: boolean;
}

export interface FeedBatch {
  readonly feed: number;
  readonly revisions: readonly FeedRevision[];
  /** Everything up to and including it has been sent. */
  readonly revision: number;
  /** Not 0: the feed has ended. */
  readonly compactRevision: number;
  /** Of the revisions that a sampled request has made. */
  readonly sampled: readonly SampledRevision[];
}

export interface SampledRevision {
  readonly revision: number;
  /** 25 bytes. */
  readonly trace: Uint8Array;
}

export interface FeedRevision {
  readonly revision: number;
  /** Encoded mvccpb.Event, in order of sub revision. */
  readonly events: readonly Uint8Array[];
}

export interface WatchHistoryRequest {
  readonly key: Uint8Array;
  readonly rangeEnd: Uint8Array;
  readonly fromRevision: number;
  /** Last revision wanted. */
  readonly toRevision: number;
  readonly prevKv: boolean;
  /** 0: the member's default. */
  readonly maxBytes: number;
}

export interface WatchHistoryResponse {
  readonly revisions: readonly FeedRevision[];
  /** Where to go on; toRevision + 1 when all was read. */
  readonly nextRevision: number;
  /** Not 0: fromRevision is below it. */
  readonly compactRevision: number;
}

export interface BackupRequest {
  /** 0: the member's default. */
  readonly windowBytes: number;
}
