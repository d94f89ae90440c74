/**
 * Who did what: a layer around the client API that tells a sink of every call when it is over. It sees requests, never
 * what they carry: no value, no password, no token gets into an entry.
 *
 *     client ──► AuditedApi ──► Gateway
 *                    └──► sink: one AuditEntry for a unary call, for a watch that is created, for the end of a stream
 */
import { type Clock, emptyBytes } from '@quoin/base';
import { codeName, Method, type RpcStatus, rpcByPath, WireReader } from '@quoin/contracts';
import { headerRevision } from './peek.ts';
import type { ApiHandler, CallContext, CancelCall, ServerStream, UnaryReply } from './ports.ts';
import { createsWatch, type KeyRange, rangesOf } from './request-ranges.ts';

export interface AuditEntry {
  /** When it began, wall ms. */
  readonly atMs: number;
  /** Empty: nobody, or authentication is off. */
  readonly user: string;
  /** Remote address. */
  readonly peer: string;
  /** Such as etcdserverpb.KV/Put. */
  readonly rpc: string;
  /** What is named in it, at every level; at most `auditRangesMax`. */
  readonly ranges: readonly KeyRange[];
  /** Ranges that were left out. */
  readonly moreRanges: number;
  /** The user, role or member that an administrative request is about. */
  readonly target: string;
  readonly requestBytes: number;
  readonly responseBytes: number;
  /** Of the answer's header; 0: none. */
  readonly revision: number;
  /** gRPC's name for it: OK, PermissionDenied, … */
  readonly outcome: string;
  readonly latencyMs: number;
}

export const auditRangesMax = 16;

/** Takes what it is told at once, and never waits. */
export interface AuditSink {
  write(entry: AuditEntry): void;
}

export interface AuditedGateway extends ApiHandler {
  /** In whose name a call is, as far as it is known. */
  userOf(context: CallContext): string;
}

export interface AuditOptions {
  readonly clock: Clock;
  readonly sink: AuditSink;
  /** Reads, too: Range, RangeStream, Watch, keep-alives and what else changes nothing. */
  readonly reads: boolean;
}

const watchPath = '/etcdserverpb.Watch/Watch';
const authenticatePath = '/etcdserverpb.Auth/Authenticate';

/** Paths that change nothing. */
const readPaths: ReadonlySet<string> = new Set(
  [...rpcByPath.values()]
    .filter((rpc) =>
      /^(Range|RangeStream|Watch|LeaseKeepAlive|LeaseTimeToLive|LeaseLeases|MemberList|Status|Hash|HashKV|Observe|Leader|Check|List|.*Get|.*List|AuthStatus)$/.test(
        rpc.name,
      ),
    )
    .map((rpc) => rpc.path),
);

export class AuditedApi implements ApiHandler {
  private readonly gateway: AuditedGateway;
  private readonly options: AuditOptions;

  constructor(gateway: AuditedGateway, options: AuditOptions) {
    this.gateway = gateway;
    this.options = options;
  }

  unary(
    path: string,
    request: Uint8Array,
    context: CallContext,
    reply: UnaryReply,
    takesParts = false,
  ): CancelCall {
    if (!this.wants(path)) return this.gateway.unary(path, request, context, reply, takesParts);
    const begun = this.begin();
    let over = false;
    const audited: UnaryReply = (status, pieces, rest) => {
      const bytes = pieces.reduce((sum, piece) => sum + piece.length, rest?.bytes ?? 0);
      const revision = pieces.length === 0 ? 0 : headerRevision(pieces[0]!);
      const told = (end: RpcStatus | null): void => {
        if (over) return;
        over = true;
        this.tell(path, request, context, begun, { status: end, bytes, revision });
      };
      if (rest === undefined) told(status);
      else rest.observe(told);
      reply(status, pieces, rest);
    };
    const cancel = this.gateway.unary(path, request, context, audited, takesParts);
    return () => {
      if (!over) {
        over = true;
        this.tell(path, request, context, begun, { status: left, bytes: 0, revision: 0 });
      }
      cancel();
    };
  }

  stream(path: string, context: CallContext, stream: ServerStream): void {
    if (!this.wants(path)) {
      this.gateway.stream(path, context, stream);
      return;
    }
    const begun = this.begin();
    const watches = path === watchPath;
    const audited = new AuditedStream(stream, {
      message: (message) => {
        if (watches && createsWatch(message)) {
          this.tell(path, message, context, this.begin(), { status: null, bytes: 0, revision: 0 });
        }
      },
      end: (status, first, sentBytes) => {
        const request = watches ? emptyBytes : first;
        this.tell(path, request, context, begun, { status, bytes: sentBytes, revision: 0 });
      },
    });
    this.gateway.stream(path, context, audited);
  }

  private wants(path: string): boolean {
    return this.options.reads || !readPaths.has(path);
  }

  private begin(): { readonly wallMs: number; readonly ms: number } {
    const { clock } = this.options;
    return { wallMs: clock.wallMs(), ms: clock.monotonicMs() };
  }

  private tell(
    path: string,
    request: Uint8Array,
    context: CallContext,
    begun: { readonly wallMs: number; readonly ms: number },
    end: { readonly status: RpcStatus | null; readonly bytes: number; readonly revision: number },
  ): void {
    const method = rpcByPath.get(path)?.method ?? Method.unspecified;
    const ranges = rangesOf(path, request);
    const administrative = method >= Method.authEnable && method <= Method.roleRevokePermission;
    const target = administrative ? firstText(request) : '';
    const user = path === authenticatePath ? target : this.gateway.userOf(context);
    this.options.sink.write({
      atMs: begun.wallMs,
      user,
      peer: context.peer,
      rpc: path.slice(1),
      ranges: ranges.slice(0, auditRangesMax),
      moreRanges: Math.max(0, ranges.length - auditRangesMax),
      target,
      requestBytes: request.length,
      responseBytes: end.bytes,
      revision: end.revision,
      outcome: codeName(end.status?.code ?? 0),
      latencyMs: this.options.clock.monotonicMs() - begun.ms,
    });
  }
}

const left: RpcStatus = { code: 1, message: 'the client has gone' };

interface StreamEvents {
  message(message: Uint8Array): void;
  /** `first`: the first message of the client. */
  end(status: RpcStatus | null, first: Uint8Array, sentBytes: number): void;
}

const ignore = (): void => undefined;

/** A client's stream that tells of its end once, whoever ends it. */
class AuditedStream implements ServerStream {
  onMessage: (message: Uint8Array) => void = ignore;
  onHalfClose: () => void = ignore;
  onCancel: () => void = ignore;
  onDrain: () => void = ignore;
  private readonly inner: ServerStream;
  private readonly events: StreamEvents;
  private first: Uint8Array = emptyBytes;
  private sentBytes = 0;
  private over = false;

  constructor(inner: ServerStream, events: StreamEvents) {
    this.inner = inner;
    this.events = events;
    inner.onMessage = (message) => {
      if (this.first.length === 0) this.first = message;
      events.message(message);
      this.onMessage(message);
    };
    inner.onHalfClose = () => this.onHalfClose();
    inner.onDrain = () => this.onDrain();
    inner.onCancel = () => {
      this.finish(left);
      this.onCancel();
    };
  }

  send(message: readonly Uint8Array[]): boolean {
    for (const piece of message) this.sentBytes += piece.length;
    return this.inner.send(message);
  }

  queuedBytes(): number {
    return this.inner.queuedBytes();
  }

  hold(on: boolean): void {
    this.inner.hold?.(on);
  }

  end(status: RpcStatus | null): void {
    this.finish(status);
    this.inner.end(status);
  }

  private finish(status: RpcStatus | null): void {
    if (this.over) return;
    this.over = true;
    this.events.end(status, this.first, this.sentBytes);
  }
}

/** Field 1 of an Auth request: always the name of a user or role, never a password. */
function firstText(request: Uint8Array): string {
  try {
    const reader = new WireReader(request);
    while (reader.more()) {
      const tag = reader.tag();
      if (tag === 10) return reader.text();
      reader.skip(tag);
    }
  } catch {
    // What cannot be read was refused.
  }
  return '';
}
