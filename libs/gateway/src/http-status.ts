import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { type HealthCheck, HealthPages, type HealthQuery, type HealthReply } from '@quoin/base';
import { Method, type RpcStatus } from '@quoin/contracts';
import {
  RangeRequestSchema,
  StatusRequestSchema,
  type StatusResponse,
  StatusResponseSchema,
} from '@quoin/contracts/etcd';
import type { GatewayCore } from './core.ts';
import { ownContext } from './credentials.ts';

const plain = 'text/plain; charset=utf-8';
const json = 'application/json';

/** The etcd release whose API this gateway speaks, for as long as no member has told. */
const apiVersion = '3.7.1';

/**
 * /health, /livez, /readyz and /version as etcd answers them, each from the member that this gateway reads from. A gateway
 * without any member is alive, because a restart would not help it, but not ready.
 */
export class HttpStatusPages {
  private readonly core: GatewayCore;
  private readonly health: HealthPages;
  private readonly burden: () => string | undefined;

  /** `burden` tells why no more clients should be sent here, if so. */
  constructor(core: GatewayCore, burden: () => string | undefined) {
    this.core = core;
    this.burden = burden;
    const { metrics, clock, log, checks } = core.ports;
    this.health = new HealthPages({
      livez: { serializable_read: this.liveRead, ...checks?.livez },
      readyz: { ...this.readyChecks(), ...checks?.readyz },
      health: (query, done) => this.reason(query.serializable, query.excluded, done),
      registry: metrics,
      clock,
      log,
    });
  }

  get(path: string, query: HealthQuery, reply: HealthReply): void {
    if (path === '/version') this.version(reply);
    else if (!this.health.get(path, query, reply)) reply(404, plain, '404 page not found\n');
  }

  /** Alarms, then the leader, then a read of one key, as etcd's handler goes. */
  private reason(serializable: boolean, excluded: readonly string[], done: (reason: string) => void): void {
    this.alarms((alarms) => {
      const alarm = alarms.find((name) => !excluded.includes(name));
      if (alarm !== undefined) done(`ALARM ${alarm}`);
      else if (!serializable && this.core.router.leader === 0n) done('RAFT NO LEADER');
      else this.read(serializable, (problem) => done(problem === undefined ? '' : `RANGE ERROR:${problem}`));
    });
  }

  private version(reply: HealthReply): void {
    this.status((status) => {
      const server = status === undefined || status.version === '' ? apiVersion : status.version;
      const cluster = status === undefined ? 'not_decided' : `${server.split('.').slice(0, 2).join('.')}.0`;
      const storage =
        status === undefined || status.storageVersion === '' ? 'unknown' : status.storageVersion;
      reply(200, json, JSON.stringify({ etcdserver: server, etcdcluster: cluster, storage }));
    });
  }

  private readonly liveRead: HealthCheck = (done) => {
    if (this.core.router.home === undefined) done(undefined);
    else this.read(true, done);
  };

  private readyChecks(): Record<string, HealthCheck> {
    const { router, config } = this.core;
    return {
      data_corruption: (done) =>
        this.alarms((alarms) => done(alarms.includes('CORRUPT') ? 'alarm activated: CORRUPT' : undefined)),
      serializable_read: (done) => this.read(true, done),
      linearizable_read: (done) => this.read(false, done),
      non_learner: (done) =>
        done(router.home?.state?.learner === true ? 'not supported for learner' : undefined),
      apply_lag: (done) => {
        const lag = router.appliedLag();
        done(
          lag > config.maxApplyLag
            ? `the member that is read from is ${lag} entries behind another`
            : undefined,
        );
      },
      load: (done) => done(this.burden()),
    };
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
    this.core.forward(what, body, ownContext, done);
  }
}
