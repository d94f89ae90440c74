import { type GatewayConfig, type GatewayOptions, gatewayConfig, gatewayConfigError } from './config.ts';
import type { ApiHandler, CallContext, CancelCall, GatewayPorts, ServerStream, UnaryReply } from './ports.ts';

export interface GatewayLinkStatus {
  readonly url: string;
  /** Undefined until the member has greeted. */
  readonly memberId: bigint | undefined;
  readonly name: string;
  readonly open: boolean;
}

/** What an operator sees of a gateway at one moment. */
export interface GatewayStatus {
  /** 0n until a member has told. */
  readonly clusterId: bigint;
  /** 0n: none known. */
  readonly leader: bigint;
  readonly term: number;
  /** The member that serves reads; 0n: none. */
  readonly home: bigint;
  /** The highest revision seen in any answer. */
  readonly revision: number;
  readonly links: readonly GatewayLinkStatus[];
  readonly watchStreams: number;
  readonly watchers: number;
}

/** Called once with the HTTP status, content type and body. */
export type HttpReply = (status: number, contentType: string, body: string) => void;

/** The stateless client API of a cluster. */
export class Gateway implements ApiHandler {
  readonly config: GatewayConfig;
  private readonly ports: GatewayPorts;

  /** @throws Error with one line for the operator when the configuration is wrong. */
  constructor(options: GatewayOptions, ports: GatewayPorts) {
    this.config = gatewayConfig(options);
    this.ports = ports;
    const problem = gatewayConfigError(this.config);
    if (problem !== undefined) throw new Error(problem);
  }

  /** Dials the members. Calls are taken from now on. */
  start(): void {
    throw new Error('not built yet');
  }

  /** Refuses new calls, lets unary ones that are under way be answered for a while, ends streams as etcd does. */
  stop(_cb: () => void): void {
    throw new Error('not built yet');
  }

  /** A leader is known and a member serves reads. */
  ready(): boolean {
    throw new Error('not built yet');
  }

  status(): GatewayStatus {
    throw new Error('not built yet');
  }

  unary(_path: string, _request: Uint8Array, _context: CallContext, _reply: UnaryReply): CancelCall {
    throw new Error('not built yet');
  }

  stream(_path: string, _context: CallContext, _stream: ServerStream): void {
    throw new Error('not built yet');
  }

  /**
   * GET of /health, /livez, /readyz (and their checks) and /version; 404 for any other path.
   * `query` maps each parameter to its values.
   */
  http(_path: string, _query: ReadonlyMap<string, readonly string[]>, _cb: HttpReply): void {
    throw new Error(`not built yet ${this.ports === undefined}`);
  }
}
