/** Accounts between which money moves in transactions: at every revision there is as much of it as at the beginning. */

import type { StoreModel } from '../checkers/model.ts';
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
import type { User, Workplace } from './user.ts';

const accounts = ['b0', 'b1', 'b2', 'b3', 'b4'];
const initial = 100;
const all = rangeRequest('b', { end: 'c' });

export function runBank(world: World, name: string): void {
  new Banker(world, new SimUser(world, name)).step();
}

/** Holds the sum at each revision of the model. */
export function watchBank(world: World): void {
  const { model } = world.witness;
  world.onRevision.push((revision) => {
    const problem = bankError(model, revision);
    if (problem !== undefined) world.violation(problem);
  });
}

/** What is wrong with the accounts at that revision, if it changed any. */
export function bankError(model: StoreModel, revision: number): string | undefined {
  if (!model.events[revision]!.some((event) => event.kv.key.startsWith('b'))) return undefined;
  const kvs = model.range('b', 'c', revision);
  const sum = kvs.reduce((total, kv) => total + amountOf(kv), 0);
  if (kvs.length === accounts.length && sum === initial * accounts.length) return undefined;
  return `the bank has ${sum} in ${kvs.length} accounts at revision ${revision}`;
}

function amountOf(kv: Kv): number {
  return Number(kv.value.split('#')[0]);
}

export class Banker {
  private readonly world: Workplace;
  private readonly user: User;

  constructor(world: Workplace, user: User) {
    this.world = world;
    this.user = user;
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
