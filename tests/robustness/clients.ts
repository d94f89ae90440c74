/** Clients of real gateways, and the record of what they were answered. */
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import * as grpc from '@grpc/grpc-js';
import type { Prng } from '@quoin/base';
import { Client, EtcdError, LinkClient } from '@quoin/client';
import { Code, Method } from '@quoin/contracts';
import { KV, Lease } from '@quoin/contracts/etcd';
import type { ClientOperation, Ending, User, Workplace } from '@quoin/sim';
import type { Recorder } from './recorder.ts';

export type CallName = 'range' | Parameters<User['mutate']>[0];

const methods = {
  range: KV.method.range,
  put: KV.method.put,
  delete: KV.method.deleteRange,
  txn: KV.method.txn,
  compact: KV.method.compact,
  grant: Lease.method.leaseGrant,
  revoke: Lease.method.leaseRevoke,
} as const;

/** One way to make calls. `done` is called once. */
export interface Caller {
  call(name: CallName, request: Uint8Array, deadlineMs: number, done: (ending: Ending) => void): void;
  /** The last call failed: elsewhere the next may not. */
  moveOn(prng: Prng): void;
  close(): void;
}

const channelOptions: grpc.ChannelOptions = {
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_retries': 0,
  'grpc.enable_http_proxy': 0,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.min_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 500,
};

export function dial(endpoint: string): grpc.Client {
  return new grpc.Client(endpoint, grpc.credentials.createInsecure(), channelOptions);
}

export const plain = (bytes: Uint8Array): Buffer =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
export const view = (buffer: Buffer): Uint8Array =>
  new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length);

/** grpc-js and nothing else: each call goes out at most once, through one gateway. */
export class GrpcCaller implements Caller {
  private readonly clients: readonly grpc.Client[];
  private at: grpc.Client;
  private closed = false;

  constructor(endpoints: readonly string[], prng: Prng) {
    this.clients = endpoints.map(dial);
    this.at = prng.pick(this.clients);
  }

  call(name: CallName, request: Uint8Array, deadlineMs: number, done: (ending: Ending) => void): void {
    if (this.closed) return void setImmediate(done, { kind: 'lost' });
    const method = methods[name];
    const path = `/${method.parent.typeName}/${method.name}`;
    const options = { deadline: Date.now() + deadlineMs };
    this.at.makeUnaryRequest(path, plain, view, request, new grpc.Metadata(), options, (error, body) => {
      if (error === null) done({ kind: 'ok', body: body! });
      else done({ kind: 'error', status: { code: error.code, message: error.details } });
    });
  }

  moveOn(prng: Prng): void {
    this.at = prng.pick(this.clients);
  }

  close(): void {
    this.closed = true;
    for (const client of this.clients) client.close();
  }
}

/** The TypeScript client: knows all gateways, and repeats what may be repeated. */
export class LibraryCaller implements Caller {
  readonly client: Client;

  constructor(endpoints: readonly string[]) {
    this.client = new Client({ endpoints });
  }

  call(name: CallName, request: Uint8Array, deadlineMs: number, done: (ending: Ending) => void): void {
    void this.ask(name, request, deadlineMs).then(done);
  }

  private async ask(name: CallName, request: Uint8Array, timeoutMs: number): Promise<Ending> {
    // One type for all, which no union of methods is to the compiler.
    const method = methods[name] as typeof KV.method.range;
    try {
      const response = await this.client.transport.unary(method, fromBinary(method.input, request), {
        timeoutMs,
      });
      return { kind: 'ok', body: toBinary(method.output, response) };
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error;
      return { kind: 'error', status: { code: error.code, message: error.message } };
    }
  }

  moveOn(): void {}

  close(): void {
    this.client.close();
  }
}

/**
 * A member's own link, as a gateway speaks it, past all proxies: reaches one that its peers do not reach, and one that
 * still believes that it leads. Reads only.
 */
export class LinkCaller implements Caller {
  private readonly url: string;
  private link: LinkClient | undefined = undefined;
  private closed = false;

  constructor(url: string) {
    this.url = url;
  }

  call(_name: CallName, request: Uint8Array, deadlineMs: number, done: (ending: Ending) => void): void {
    if (this.closed) return void setImmediate(done, { kind: 'lost' });
    this.link ??= new LinkClient({ url: this.url, name: 'robustness' });
    this.link.request(Method.range, request, { timeoutMs: deadlineMs }).then(
      (body) => done({ kind: 'ok', body }),
      ({ code, message }: EtcdError) => {
        if (code === Code.unavailable) this.drop();
        done({ kind: 'error', status: { code, message } });
      },
    );
  }

  moveOn(): void {}

  close(): void {
    this.closed = true;
    this.drop();
  }

  private drop(): void {
    this.link?.close();
    this.link = undefined;
  }
}

const pauseAfterErrorMs = 40;

/** A user as the simulator's workloads know it. */
export class RecordedUser implements User {
  readonly prng: Prng;
  readonly name: string;
  private readonly world: Workplace;
  private readonly recorder: Recorder;
  private readonly caller: Caller;

  constructor(world: Workplace, recorder: Recorder, name: string, prng: Prng, caller: Caller) {
    this.world = world;
    this.recorder = recorder;
    this.name = name;
    this.prng = prng;
    this.caller = caller;
  }

  later(meanMs: number, fn: () => void): void {
    setTimeout(fn, meanMs * 2 * this.prng.float());
  }

  mutate(
    name: Exclude<CallName, 'range'>,
    build: (number: number) => Uint8Array,
    done: (ending: Ending, operation: ClientOperation) => void,
  ): void {
    this.call('mutation', name, build(this.recorder.operations + 1), done);
  }

  read(request: Uint8Array, serializable: boolean, done: (ending: Ending) => void): void {
    this.call(serializable ? 'serializableRead' : 'read', 'range', request, done);
  }

  call(
    kind: ClientOperation['kind'],
    name: CallName,
    request: Uint8Array,
    done: (ending: Ending, operation: ClientOperation) => void,
  ): void {
    const { recorder, prng, caller } = this;
    const deadlineMs = this.world.working ? prng.pick([300, 2_000, 7_000]) : 7_000;
    const number = recorder.begin(kind, name, this.name, request);
    const operation: ClientOperation = {
      number,
      name,
      kind,
      request,
      floorRevision: 0,
      floorPosition: 0,
      ended: true,
    };
    caller.call(name, request, deadlineMs, (ending) => {
      recorder.end(number, ending);
      if (ending.kind === 'ok') return done(ending, operation);
      caller.moveOn(prng);
      setTimeout(() => done(ending, operation), pauseAfterErrorMs);
    });
  }
}
