import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Method, type RpcStatus } from '@quoin/contracts';
import {
  RangeRequestSchema,
  StatusRequestSchema,
  type StatusResponse,
  StatusResponseSchema,
} from '@quoin/contracts/etcd';
import type { GatewayCore } from './core.ts';
import { ownContext } from './credentials.ts';

/** Called once with the HTTP status, content type and body. */
export type HttpReply = (status: number, contentType: string, body: string) => void;

type Query = ReadonlyMap<string, readonly string[]>;

/** Ends with undefined when all is well, else with why not. */
type Check = (done: (problem: string | undefined) => void) => void;

const plain = 'text/plain; charset=utf-8';
const json = 'application/json';

/** The etcd release whose API this gateway speaks, for as long as no member has told. */
const apiVersion = '3.7.1';

/**
 * /health, /livez, /readyz and /version as etcd answers them. A gateway without any member is alive, because a restart
 * would not help it, but not ready.
 */
export class HttpStatusPages {
  private readonly core: GatewayCore;

  constructor(core: GatewayCore) {
    this.core = core;
  }

  get(path: string, query: Query, cb: HttpReply): void {
    const [, page, check, ...rest] = path.split('/');
    if (rest.length > 0 || (check !== undefined && page !== 'livez' && page !== 'readyz')) notFound(cb);
    else if (page === 'health') this.health(query, cb);
    else if (page === 'version') this.version(cb);
    else if (page === 'livez') this.checks({ serializable_read: this.liveRead }, check, query, cb);
    else if (page === 'readyz') this.checks(this.readyChecks(), check, query, cb);
    else notFound(cb);
  }

  /** Alarms, then the leader, then a read of one key, as etcd's handler goes. */
  private health(query: Query, cb: HttpReply): void {
    const serializable = query.get('serializable')?.[0] === 'true';
    const excluded = (query.get('exclude') ?? []).map((alarm) => alarm.toUpperCase());
    const answer = (reason: string): void => {
      if (reason === '') cb(200, plain, '{"health":"true","reason":""}');
      else cb(503, plain, `${JSON.stringify({ health: 'false', reason })}\n`);
    };
    this.alarms((alarms) => {
      const alarm = alarms.find((name) => !excluded.includes(name));
      if (alarm !== undefined) answer(`ALARM ${alarm}`);
      else if (!serializable && this.core.router.leader === 0n) answer('RAFT NO LEADER');
      else
        this.read(serializable, (problem) => answer(problem === undefined ? '' : `RANGE ERROR:${problem}`));
    });
  }

  private version(cb: HttpReply): void {
    this.status((status) => {
      const server = status === undefined || status.version === '' ? apiVersion : status.version;
      const cluster = status === undefined ? 'not_decided' : `${server.split('.').slice(0, 2).join('.')}.0`;
      const storage =
        status === undefined || status.storageVersion === '' ? 'unknown' : status.storageVersion;
      cb(200, json, JSON.stringify({ etcdserver: server, etcdcluster: cluster, storage }));
    });
  }

  private readonly liveRead: Check = (done) => {
    if (this.core.router.home === undefined) done(undefined);
    else this.read(true, done);
  };

  private readyChecks(): Record<string, Check> {
    return {
      data_corruption: (done) =>
        this.alarms((alarms) => done(alarms.includes('CORRUPT') ? 'alarm activated: CORRUPT' : undefined)),
      serializable_read: (done) => this.read(true, done),
      linearizable_read: (done) => this.read(false, done),
      non_learner: (done) =>
        done(this.core.router.home?.state?.learner === true ? 'not supported for learner' : undefined),
    };
  }

  private checks(all: Record<string, Check>, only: string | undefined, query: Query, cb: HttpReply): void {
    const excluded = query.get('exclude') ?? [];
    const names = only === undefined ? Object.keys(all).filter((name) => !excluded.includes(name)) : [only];
    if (names.some((name) => all[name] === undefined)) return notFound(cb);
    const lines: string[] = [];
    let failed = false;
    const next = (i: number): void => {
      const name = names[i];
      if (name === undefined) {
        if (failed) cb(503, plain, `${lines.join('')}\n`);
        else cb(200, plain, `${query.has('verbose') ? lines.join('') : ''}ok\n`);
        return;
      }
      all[name]!((problem) => {
        failed ||= problem !== undefined;
        lines.push(problem === undefined ? `[+]${name} ok\n` : `[-]${name} failed: ${problem}\n`);
        next(i + 1);
      });
    };
    next(0);
  }

  /** One key of the whole space; its outcome is all that counts. */
  private read(serializable: boolean, done: (problem: string | undefined) => void): void {
    if (this.core.router.home === undefined) return done('no member is reachable');
    const request = { key: new Uint8Array(1), limit: 1n, keysOnly: true, serializable };
    const body = toBinary(RangeRequestSchema, create(RangeRequestSchema, request));
    this.ask(Method.range, body, (status) => {
      done(status === null ? undefined : status.message);
    });
  }

  private alarms(done: (alarms: string[]) => void): void {
    this.status((status) => {
      const texts = status?.errors.flatMap((error) =>
        [...error.matchAll(/alarm:(\w+)/g)].map((match) => match[1]!),
      );
      done(texts ?? []);
    });
  }

  /** Undefined when no member answers. */
  private status(done: (status: StatusResponse | undefined) => void): void {
    if (this.core.router.home === undefined) return done(undefined);
    const body = toBinary(StatusRequestSchema, create(StatusRequestSchema));
    this.ask(Method.status, body, (status, pieces) =>
      done(status === null ? fromBinary(StatusResponseSchema, pieces[0]!) : undefined),
    );
  }

  private ask(
    method: Method,
    body: Uint8Array,
    done: (status: RpcStatus | null, pieces: readonly Uint8Array[]) => void,
  ): void {
    const what = { method, target: 'home', resend: true, bounded: true } as const;
    this.core.forward(what, body, ownContext, undefined, done);
  }
}

function notFound(cb: HttpReply): void {
  cb(404, plain, '404 page not found\n');
}
