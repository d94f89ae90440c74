/** Leases that are granted, given keys, kept alive for a while, and then revoked or left to run out. */
import { WireWriter } from '@quoin/contracts';
import { leaseIdBase } from '../checkers/operation-id.ts';
import { idRequest, leaseGrantRequest, putRequest, varint } from '../etcd-messages.ts';
import type { FrontStream } from '../front.ts';
import { SimUser, type World } from '../world.ts';

export function runLeases(world: World, name: string): void {
  new LeaseHolder(world, name).begin();
}

class LeaseHolder {
  private readonly world: World;
  private readonly user: SimUser;
  private stream: FrontStream | undefined;
  private id = 0n;
  private ttlSeconds = 0;
  private sentMs = 0;

  constructor(world: World, name: string) {
    this.world = world;
    this.user = new SimUser(world, name);
    this.stream = undefined;
  }

  begin(): void {
    this.user.later(this.world.plan.thinkMs * 4, () => {
      if (!this.world.working) return;
      const sentMs = this.world.nowMs;
      const ttl = 1 + this.user.prng.below(3);
      const build = (n: number): Uint8Array => leaseGrantRequest(ttl, leaseIdBase + BigInt(n));
      this.user.mutate('grant', build, (ending, operation) => {
        if (ending.kind !== 'ok') return this.begin();
        this.id = leaseIdBase + BigInt(operation.number);
        this.ttlSeconds = Number(varint(ending.body, 24));
        this.world.leases.renewed(this.id, this.ttlSeconds, sentMs);
        this.attach();
      });
    });
  }

  private attach(): void {
    const { prng } = this.user;
    const lease = this.id;
    const key = prng.chance(0.8) ? `l${lease - leaseIdBase}` : 'l';
    this.user.mutate(
      'put',
      (n) => putRequest(key, `v${n}`, { lease }),
      () => this.hold(1 + prng.below(6)),
    );
  }

  private hold(times: number): void {
    if (times === 0 || !this.world.working) return this.leave();
    this.user.later((this.ttlSeconds * 1_000) / 3, () => this.keepAlive(() => this.hold(times - 1)));
  }

  private leave(): void {
    this.stream?.cancel();
    this.stream = undefined;
    if (!this.world.working || this.user.prng.chance(0.6)) return this.begin();
    const id = this.id;
    this.user.mutate(
      'revoke',
      () => idRequest(id),
      () => this.begin(),
    );
  }

  /** One at a time: so each answer is that of the last request. */
  private keepAlive(done: () => void): void {
    const { world, user } = this;
    let over = false;
    const finish = (): void => {
      if (over) return;
      over = true;
      done();
    };
    this.sentMs = world.nowMs;
    const fresh = this.stream === undefined || this.stream.isOver;
    const stream = fresh
      ? user.client.stream(user.pickFront(), '/etcdserverpb.Lease/LeaseKeepAlive')
      : this.stream!;
    this.stream = stream;
    stream.onMessage = (body) => {
      const id = varint(body, 16);
      const ttl = Number(varint(body, 24));
      if (over || id !== this.id) return;
      world.trace.add(() => `lease ${id - leaseIdBase} kept alive: ${ttl}`);
      if (ttl > 0) world.leases.renewed(id, ttl, this.sentMs);
      finish();
    };
    stream.onEnd = finish;
    stream.send(keepAliveRequest(this.id));
    // An answer that comes later than this belongs to no request that is waited for: the stream goes with it.
    user.client.host.enqueue(2_000, () => {
      if (over) return;
      stream.cancel();
      finish();
    });
  }
}

const writer = new WireWriter(64);

function keepAliveRequest(id: bigint): Uint8Array {
  writer.begin(16);
  writer.id(8, id);
  return writer.finish().slice();
}
