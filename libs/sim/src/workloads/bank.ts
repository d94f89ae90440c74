/** Accounts between which money moves in transactions: at every revision there is as much of it as at the beginning. */
import {
  type CompareOptions,
  type Kv,
  putOp,
  putRequest,
  rangeRequest,
  readKvs,
  txnRequest,
} from '../etcd-messages.ts';
import { SimUser, type World } from '../world.ts';

const accounts = ['b0', 'b1', 'b2', 'b3', 'b4'];
const initial = 100;
const all = rangeRequest('b', { end: 'c' });

export function runBank(world: World, name: string): void {
  new Banker(world, name).step();
}

/** Holds the sum at each revision of the model. */
export function watchBank(world: World): void {
  const { model } = world.witness;
  world.onRevision.push((revision) => {
    if (!model.events[revision]!.some((event) => event.kv.key.startsWith('b'))) return;
    const kvs = model.range('b', 'c');
    const sum = kvs.reduce((total, kv) => total + amountOf(kv), 0);
    if (kvs.length !== accounts.length || sum !== initial * accounts.length) {
      world.violation(`the bank has ${sum} in ${kvs.length} accounts at revision ${revision}`);
    }
  });
}

function amountOf(kv: Kv): number {
  return Number(kv.value.split('#')[0]);
}

class Banker {
  private readonly world: World;
  private readonly user: SimUser;

  constructor(world: World, name: string) {
    this.world = world;
    this.user = new SimUser(world, name);
  }

  step(): void {
    this.user.later(this.world.plan.thinkMs, () => {
      if (!this.world.working) return;
      this.user.read(all, false, (ending) => {
        if (ending.kind !== 'ok') return this.step();
        const kvs = readKvs(ending.body);
        if (kvs.length === 0) this.open();
        else this.transfer(kvs);
      });
    });
  }

  private open(): void {
    const absent = accounts.map(
      (key): CompareOptions => ({ key, target: 'create', result: '=', operand: 0 }),
    );
    const build = (n: number): Uint8Array =>
      txnRequest(
        absent,
        accounts.map((key) => putOp(putRequest(key, `${initial}#${n}`))),
      );
    this.user.mutate('txn', build, () => this.step());
  }

  private transfer(kvs: readonly Kv[]): void {
    const { prng } = this.user;
    const from = prng.pick(kvs);
    const to = prng.pick(kvs.filter((kv) => kv !== from));
    const amount = prng.below(amountOf(from) + 1);
    const unchanged = [from, to].map(
      (kv): CompareOptions => ({ key: kv.key, target: 'mod', result: '=', operand: kv.modRevision }),
    );
    const build = (n: number): Uint8Array =>
      txnRequest(unchanged, [
        putOp(putRequest(from.key, `${amountOf(from) - amount}#${n}`)),
        putOp(putRequest(to.key, `${amountOf(to) + amount}#${n}`)),
      ]);
    this.user.mutate('txn', build, () => this.step());
  }
}
