/** Random puts, deletes, transactions and reads on a few keys: single ones and ranges, newest and older revisions. */
import {
  type CompareOptions,
  deleteOp,
  deleteRequest,
  type Op,
  putOp,
  putRequest,
  rangeOp,
  rangeRequest,
  readHeader,
  readKvs,
  txnOp,
  txnRequest,
} from '../etcd-messages.ts';
import { SimUser, type World } from '../world.ts';
import type { User, Workplace } from './user.ts';

export function runKv(world: World, name: string): void {
  new KvUser(world, new SimUser(world, name)).step();
}

export class KvUser {
  private readonly world: Workplace;
  private readonly user: User;
  private lastRevision = 1;

  constructor(world: Workplace, user: User) {
    this.world = world;
    this.user = user;
  }

  step(): void {
    this.user.later(this.world.plan.thinkMs, () => {
      if (!this.world.working) return;
      const again = (): void => this.step();
      const { prng } = this.user;
      const kind = prng.below(20);
      if (kind < 6) this.put(again);
      else if (kind < 8) this.remove(again);
      else if (kind < 11) this.swap(again);
      else if (kind < 13) this.txn(again);
      else this.get(again);
    });
  }

  private key(): string {
    return `k${this.user.prng.below(this.world.plan.keys)}`;
  }

  /** Never the same twice; sometimes large enough to be kept apart. */
  private value(number: number): string {
    const { prng } = this.user;
    const size = prng.chance(0.05) ? 1_000 + prng.below(1_000) : prng.below(100);
    return `v${number}${'.'.repeat(size)}`;
  }

  private put(done: () => void): void {
    const key = this.key();
    const prevKv = this.user.prng.chance(0.3);
    const ignoreValue = this.user.prng.chance(0.05) && this.world.plan.uniqueValues !== true;
    const request = (n: number): Uint8Array =>
      putRequest(key, ignoreValue ? '' : this.value(n), { prevKv, ignoreValue });
    this.user.mutate('put', request, done);
  }

  private remove(done: () => void): void {
    const { prng } = this.user;
    const prevKv = prng.chance(0.5);
    const key = this.key();
    const end = prng.chance(0.1) ? `${key}z` : '';
    this.user.mutate('delete', () => deleteRequest(key, end, prevKv), done);
  }

  /** Put if nobody has since the read. */
  private swap(done: () => void): void {
    const key = this.key();
    const range = rangeRequest(key);
    this.user.read(range, false, (ending) => {
      if (ending.kind !== 'ok') return done();
      const operand = readKvs(ending.body)[0]?.modRevision ?? 0;
      const compare: CompareOptions = { key, target: 'mod', result: '=', operand };
      const build = (n: number): Uint8Array =>
        txnRequest([compare], [putOp(putRequest(key, this.value(n), { prevKv: true }))], [rangeOp(range)]);
      this.user.mutate('txn', build, done);
    });
  }

  private txn(done: () => void): void {
    const build = (n: number): Uint8Array => {
      const compare = this.compare();
      return txnRequest([compare], this.ops(n, 2), this.ops(n, 1));
    };
    this.user.mutate('txn', build, done);
  }

  private compare(): CompareOptions {
    const { prng } = this.user;
    const target = prng.pick(['version', 'create', 'mod'] as const);
    const operand = target === 'version' ? prng.below(3) : prng.below(this.lastRevision + 1);
    return { key: this.key(), target, result: prng.pick(['=', '>', '<', '!=']), operand };
  }

  /** Each key at most once: etcd refuses a transaction that changes one twice. */
  private ops(number: number, depth: number): Op[] {
    const { prng } = this.user;
    const keys = new Set<string>();
    const ops: Op[] = [putOp(putRequest('kk', `t${number}`))];
    const count = prng.below(4);
    for (let i = 0; i < count; i++) {
      const key = this.key();
      if (keys.has(key)) continue;
      keys.add(key);
      const kind = prng.below(3);
      if (kind === 0) ops.push(putOp(putRequest(key, this.value(number), { prevKv: prng.chance(0.5) })));
      else if (kind === 1) ops.push(deleteOp(deleteRequest(key, '', prng.chance(0.5))));
      else ops.push(rangeOp(rangeRequest('k', { end: 'l' })));
    }
    if (depth > 1 && prng.chance(0.2)) {
      ops.push(txnOp(txnRequest([this.compare()], [rangeOp(rangeRequest(this.key()))], [])));
    }
    return ops;
  }

  private get(done: () => void): void {
    const { prng } = this.user;
    const serializable = prng.chance(0.25);
    const whole = prng.chance(0.3);
    const old = prng.chance(0.15);
    const request = rangeRequest(whole ? 'k' : this.key(), {
      serializable,
      ...(whole ? { end: 'l' } : {}),
      ...(whole && prng.chance(0.3) ? { limit: 1 + prng.below(5) } : {}),
      ...(old ? { revision: Math.max(1, this.lastRevision - prng.below(30)) } : {}),
    });
    this.user.read(request, serializable, (ending) => {
      if (ending.kind === 'ok') this.lastRevision = readHeader(ending.body).revision;
      done();
    });
  }
}
