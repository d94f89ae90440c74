/** Raw gRPC to one server: bytes of our making out, and whatever comes back. */
import * as grpc from '@grpc/grpc-js';
import type { Rpc } from '@quoin/contracts';

/** How a call ended. Code 0 is success. */
export interface Ending {
  readonly code: number;
  readonly text: string;
}

export interface Reply extends Ending {
  /** The messages of the answer; one for a unary call that succeeded. */
  readonly messages: readonly Uint8Array[];
}

export interface CallSettings {
  readonly metadata?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
}

const same = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
const asIs = (bytes: Buffer): Uint8Array => bytes;

export const callTimeoutMs = 10_000;

export class Connection {
  private readonly client: grpc.Client;

  constructor(endpoint: string) {
    this.client = new grpc.Client(endpoint, grpc.credentials.createInsecure(), {
      'grpc.max_receive_message_length': -1,
      // A connection of its own, not one that grpc-js shares in the process.
      'grpc.use_local_subchannel_pool': 1,
    });
  }

  /** All request messages at once, then the answer to its end. */
  call(rpc: Rpc, requests: readonly Uint8Array[], settings: CallSettings = {}): Promise<Reply> {
    if (rpc.kind === 'unary') return this.unary(rpc.path, requests[0]!, settings);
    return new Promise((resolve) => {
      const messages: Uint8Array[] = [];
      const stream = this.open(rpc, {
        ...settings,
        onMessage: (message) => messages.push(message),
        onEnd: (ending) => resolve({ ...ending, messages }),
        timeoutMs: settings.timeoutMs ?? callTimeoutMs,
      });
      for (const request of requests) stream.send(request);
      stream.halfClose();
    });
  }

  /** A stream that stays open. For one that is a server stream the first message sent is its request. */
  open(
    rpc: Rpc,
    settings: CallSettings & {
      readonly onMessage: (message: Uint8Array) => void;
      readonly onEnd: (ending: Ending) => void;
    },
  ): OpenStream {
    const options = optionsOf(settings);
    const metadata = metadataOf(settings);
    let ended = false;
    const attach = (call: grpc.ClientReadableStream<Uint8Array>): void => {
      call.on('data', settings.onMessage);
      // Without a listener the error would be thrown; what it says comes in the status too.
      call.on('error', () => {});
      call.on('status', (status: grpc.StatusObject) => {
        if (ended) return;
        ended = true;
        settings.onEnd({ code: status.code, text: status.details });
      });
    };
    if (rpc.kind === 'serverStream') {
      let call: grpc.ClientReadableStream<Uint8Array> | undefined;
      return {
        send: (message) => {
          if (call !== undefined) throw new Error(`${rpc.name} takes one request`);
          call = this.client.makeServerStreamRequest(rpc.path, same, asIs, message, metadata, options);
          attach(call);
        },
        halfClose: () => {},
        cancel: () => call?.cancel(),
      };
    }
    const call = this.client.makeBidiStreamRequest(rpc.path, same, asIs, metadata, options);
    attach(call);
    return {
      send: (message) => {
        if (!ended) call.write(message);
      },
      halfClose: () => call.end(),
      cancel: () => call.cancel(),
    };
  }

  close(): void {
    this.client.close();
  }

  private unary(path: string, request: Uint8Array, settings: CallSettings): Promise<Reply> {
    return new Promise((resolve) => {
      this.client.makeUnaryRequest(
        path,
        same,
        asIs,
        request,
        metadataOf(settings),
        optionsOf({ timeoutMs: callTimeoutMs, ...settings }),
        (error, message) => {
          if (error !== null) resolve({ code: error.code, text: error.details, messages: [] });
          else resolve({ code: 0, text: '', messages: [message!] });
        },
      );
    });
  }
}

export interface OpenStream {
  send(message: Uint8Array): void;
  halfClose(): void;
  cancel(): void;
}

function metadataOf(settings: CallSettings): grpc.Metadata {
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(settings.metadata ?? {})) metadata.set(name, value);
  return metadata;
}

function optionsOf(settings: CallSettings): grpc.CallOptions {
  return settings.timeoutMs === undefined ? {} : { deadline: Date.now() + settings.timeoutMs };
}
