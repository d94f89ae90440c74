/** The same changes, drawn from a seed, for any server: puts, deletes, transactions, leases. */
import { Prng } from '@quoin/base';
import { type Client, op } from '@quoin/client';

export const historyLeases: readonly bigint[] = [11n, 12n];

export async function grantLeases(client: Client): Promise<void> {
  for (const id of historyLeases) await client.lease.grant(3_600, id);
}

/** `count` requests; about one in ten changes nothing. */
export async function writeHistory(client: Client, seed: number, count: number): Promise<void> {
  const prng = new Prng(seed);
  const key = (): string => `k${'\0\u00ff/'.charAt(prng.below(4))}${prng.below(12)}`;
  const value = (): string =>
    prng.chance(0.1) ? 'L'.repeat(900 + prng.below(3_000)) : 'v'.repeat(prng.below(40));
  const lease = (): bigint => (prng.chance(0.2) ? historyLeases[prng.below(2)]! : 0n);
  for (let i = 0; i < count; i++) {
    const kind = prng.below(10);
    if (kind < 5) await client.kv.put(key(), value(), { lease: lease() });
    else if (kind < 7) await client.kv.delete(key());
    else if (kind < 8) await client.kv.delete('k/1', { rangeEnd: 'k/3' });
    else {
      // "From key on" is not held against later puts: the same key changes twice in one revision.
      const rest = op.delete('n', { fromKey: true });
      const nested = op.txn({ success: [op.put(`n${prng.below(3)}`, value(), { lease: lease() })] });
      const ops = [op.put(key(), value()), rest, nested].slice(prng.below(3));
      await client.kv.txn({ success: prng.chance(0.5) ? ops : [...ops, op.put('z', value())] });
    }
  }
}
