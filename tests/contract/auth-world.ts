/** A simulated cluster behind gateways, spoken to in etcd's messages, in anybody's name. */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { type TokenSigner, utf8 } from '@quoin/base';
import { rpcByPath } from '@quoin/contracts';
import {
  type AuthenticateResponse,
  PermissionSchema,
  WatchRequestSchema,
  type WatchResponse,
  WatchResponseSchema,
} from '@quoin/contracts/etcd';
import type { GatewayLimits } from '@quoin/gateway';
import type { MemberLimits } from '@quoin/member';
import { SimCluster, SimGateway, type SimStream } from '@quoin/sim';

// biome-ignore lint/suspicious/noExplicitAny: any message of the API
type Any = any;

export interface Answer {
  /** Empty: it went well. Without etcd's prefix. */
  readonly problem: string;
  readonly code: number;
  readonly response: Any;
}

export interface AuthWorldOptions {
  readonly limits?: Partial<MemberLimits>;
  readonly gateway?: Partial<GatewayLimits>;
  readonly signer?: TokenSigner;
}

export class AuthWorld {
  readonly cluster: SimCluster;
  readonly gateways: SimGateway[];

  constructor(seed: number, options: AuthWorldOptions = {}) {
    const { limits = {}, signer } = options;
    this.cluster = new SimCluster({ seed, limits, ...(signer === undefined ? {} : { signer }) });
    this.cluster.start();
    this.cluster.waitForLeader();
    this.gateways = ['g1', 'g2'].map((name) => new SimGateway(this.cluster, name, options.gateway));
    this.cluster.run(500);
  }

  /** `rpc` such as `KV/Put`; in the name of whoever the gateway's token stands for. */
  call(rpc: string, init: object = {}, gateway = this.gateways[0]!): Answer {
    const path = rpc.includes('.') ? `/${rpc}` : `/etcdserverpb.${rpc}`;
    const { request, response } = rpcByPath.get(path)!;
    const reply = gateway.call(path, toBinary(request, create(request, init as never)));
    return {
      problem: reply.message.replace('etcdserver: ', ''),
      code: reply.code,
      response: reply.code === 0 ? fromBinary(response, reply.body) : undefined,
    };
  }

  /** The same, and it must go well. */
  ok(rpc: string, init: object = {}, gateway = this.gateways[0]!): Any {
    const { problem, response } = this.call(rpc, init, gateway);
    if (problem !== '') throw new Error(`${rpc}: ${problem}`);
    return response;
  }

  /** A token of that user. */
  login(name: string, password = name): string {
    const { token } = this.ok('Auth/Authenticate', { name, password }) as AuthenticateResponse;
    return token;
  }

  /** Runs `what` in a user's name; empty: nobody's. */
  as<T>(name: string, what: () => T): T {
    const tokens = this.gateways.map((gateway) => gateway.token);
    const token = name === '' ? '' : this.login(name);
    for (const gateway of this.gateways) gateway.token = token;
    try {
      return what();
    } finally {
      this.gateways.forEach((gateway, i) => {
        gateway.token = tokens[i]!;
      });
    }
  }

  grant(role: string, permType: 0 | 1 | 2, key: string, rangeEnd = ''): void {
    const perm = create(PermissionSchema, { permType, key: utf8(key), rangeEnd: utf8(rangeEnd) });
    this.ok('Auth/RoleGrantPermission', { name: role, perm });
  }

  /** Users root, alice (READWRITE below `a/`), reader (READ there), bob (nothing); on, with root at both gateways. */
  enable(): void {
    for (const name of ['root', 'alice', 'reader', 'bob']) this.ok('Auth/UserAdd', { name, password: name });
    for (const name of ['root', 'alice', 'reader']) this.ok('Auth/RoleAdd', { name });
    this.grant('alice', 2, 'a/', 'a0');
    this.grant('reader', 0, 'a/', 'a0');
    for (const name of ['root', 'alice', 'reader']) this.ok('Auth/UserGrantRole', { user: name, role: name });
    this.ok('Auth/AuthEnable');
    const token = this.login('root');
    for (const gateway of this.gateways) gateway.token = token;
  }

  watch(init: object, gateway = this.gateways[0]!): SimStream {
    const stream = gateway.stream('/etcdserverpb.Watch/Watch');
    this.create(stream, init);
    this.cluster.run(300);
    return stream;
  }

  create(stream: SimStream, init: object): void {
    stream.server.onMessage(watchRequest(init));
  }
}

export function responses(stream: SimStream): WatchResponse[] {
  return stream.received.map((bytes) => fromBinary(WatchResponseSchema, bytes));
}

/** A request that creates a watch. */
export function watchRequest(init: object): Uint8Array {
  const request = { requestUnion: { case: 'createRequest' as const, value: init } };
  return toBinary(WatchRequestSchema, create(WatchRequestSchema, request));
}

/** The encoded request of `rpc`, such as `KV/Put`. */
export function bytesOf(rpc: string, init: object): Uint8Array {
  const { request } = rpcByPath.get(`/etcdserverpb.${rpc}`)!;
  return toBinary(request, create(request, init as never));
}
