/**
 * As little client as possible between a measurement and the server: encoded requests over grpc-js, many at once, with
 * the time that each took.
 */
import { create, type DescMessage, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import {
  type ClientDuplexStream,
  type ClientReadableStream,
  credentials,
  Client as GrpcClient,
} from '@grpc/grpc-js';

const callLimitMs = 600_000;

export class RawClient {
  private readonly client: GrpcClient;

  constructor(endpoint: string) {
    this.client = new GrpcClient(endpoint, credentials.createInsecure(), {
      'grpc.max_receive_message_length': -1,
      'grpc.max_send_message_length': -1,
      'grpc-node.flow_control_window': 4 << 20,
      'grpc.use_local_subchannel_pool': 1,
    });
  }

  call(path: string, request: Uint8Array): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.client.makeUnaryRequest(
        path,
        asBuffer,
        same,
        request,
        { deadline: Date.now() + callLimitMs },
        (error, body) => (error === null ? resolve(body!) : reject(error)),
      );
    });
  }

  stream(path: string, request: Uint8Array): ClientReadableStream<Buffer> {
    return this.client.makeServerStreamRequest(path, asBuffer, same, request);
  }

  bidi(path: string): ClientDuplexStream<Uint8Array, Buffer> {
    return this.client.makeBidiStreamRequest(path, asBuffer, same);
  }

  close(): void {
    this.client.close();
  }
}

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
const same = (bytes: Buffer): Buffer => bytes;

export function encode<D extends DescMessage>(schema: D, init: MessageInitShape<D>): Uint8Array {
  return toBinary(schema, create(schema, init));
}

export interface Rate {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly operations: number;
}

/** `clients` calls at a time until the time is over. */
export async function atFullRate(
  clients: number,
  seconds: number,
  once: (n: number) => Promise<unknown>,
): Promise<Rate> {
  const times: number[] = [];
  const began = performance.now();
  const end = began + seconds * 1_000;
  let next = 0;
  await Promise.all(
    Array.from({ length: clients }, async () => {
      for (let at = performance.now(); at < end; ) {
        await once(next++);
        const now = performance.now();
        times.push(now - at);
        at = now;
      }
    }),
  );
  return rateOf(times, performance.now() - began);
}

export function rateOf(times: number[], durationMs: number): Rate {
  times.sort((a, b) => a - b);
  const at = (share: number): number =>
    times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0;
  return {
    perSecond: times.length / (durationMs / 1_000),
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    operations: times.length,
  };
}
