import { emptyBytes } from '@quoin/base';
import { Code, decodeRequest, type RpcStatus, WireWriter } from '@quoin/contracts';
import { HealthCheckRequestSchema, HealthListRequestSchema } from '@quoin/contracts/etcd';
import { type GatewayCore, readOr } from './core.ts';
import type { UnaryHandler } from './gateway.ts';
import type { CancelCall, ServerStream, UnaryReply } from './ports.ts';
import type { StreamHandler } from './tracked-stream.ts';

const serving = 1;
const notServing = 2;
const serviceUnknown = 3;

const writer = new WireWriter(64);

/** grpc.health.v1: the one service name "" stands for the whole gateway. */
export class HealthService {
  private readonly core: GatewayCore;
  private readonly ready: () => boolean;
  private readonly watches = new Set<HealthWatch>();

  constructor(core: GatewayCore, ready: () => boolean) {
    this.core = core;
    this.ready = ready;
  }

  handlers(): [string, UnaryHandler][] {
    return [
      ['/grpc.health.v1.Health/Check', (request, _, reply) => this.check(request, reply)],
      ['/grpc.health.v1.Health/List', (request, _, reply) => this.list(request, reply)],
    ];
  }

  watch(stream: ServerStream): StreamHandler {
    return new HealthWatch(stream, this.watches, () => this.current());
  }

  onChange(): void {
    for (const watch of this.watches) watch.tell();
  }

  private current(): number {
    return this.ready() ? serving : notServing;
  }

  private check(request: Uint8Array, reply: UnaryReply): CancelCall {
    const service = readOr(
      () => decodeRequest(HealthCheckRequestSchema, request).service,
      (status) => this.core.later(() => reply(status, [])),
    );
    if (service !== undefined) {
      this.core.later(() => {
        if (service === '') reply(null, [encodeStatus(this.current())]);
        else reply({ code: Code.notFound, message: 'unknown service' }, []);
      });
    }
    return () => undefined;
  }

  private list(request: Uint8Array, reply: UnaryReply): CancelCall {
    const read = readOr(
      () => decodeRequest(HealthListRequestSchema, request),
      (status) => this.core.later(() => reply(status, [])),
    );
    if (read !== undefined) this.core.later(() => reply(null, [encodeStatuses(this.current())]));
    return () => undefined;
  }
}

/** Tells the status at once, and then each time it changes. */
class HealthWatch implements StreamHandler {
  readonly stopStatus: RpcStatus = { code: Code.canceled, message: 'Stream has ended.' };
  private readonly stream: ServerStream;
  private readonly watches: Set<HealthWatch>;
  private readonly current: () => number;
  private service: string | undefined;
  private told = -1;

  constructor(stream: ServerStream, watches: Set<HealthWatch>, current: () => number) {
    this.stream = stream;
    this.watches = watches;
    this.current = current;
    stream.onMessage = (request) => {
      if (this.service !== undefined) return;
      this.service = readOr(
        () => decodeRequest(HealthCheckRequestSchema, request).service,
        (status) => this.end(status),
      );
      this.tell();
    };
    stream.onCancel = () => this.watches.delete(this);
    watches.add(this);
  }

  tell(): void {
    if (this.service === undefined) return;
    const status = this.service === '' ? this.current() : serviceUnknown;
    if (status === this.told) return;
    this.told = status;
    this.stream.send([encodeStatus(status)]);
  }

  end(status: RpcStatus | null): void {
    if (!this.watches.delete(this)) return;
    this.stream.end(status);
  }
}

function encodeStatus(status: number): Uint8Array {
  writer.begin();
  writer.uint(8, status);
  return writer.finish();
}

/** The one entry of the map, for the service "". */
function encodeStatuses(status: number): Uint8Array {
  const own = encodeStatus(status);
  writer.begin();
  writer.bytesItem(10, emptyBytes);
  writer.bytesItem(18, own);
  const entry = writer.finish();
  writer.begin();
  writer.bytesItem(10, entry);
  return writer.finish();
}
