/** Writers that remember what was acknowledged, and the comparison of what the members then hold. */
import { Client, EtcdError } from '@quoin/client';

export interface Acknowledged {
  readonly value: string;
  readonly revision: bigint;
}

/**
 * Concurrent writers of sequence numbers, each with keys of its own. A write whose outcome is unknown is not repeated
 * under the same value, so that "acknowledged" and "present" can be compared exactly.
 */
export class WriteLoad {
  /** The last acknowledged write of each key. */
  readonly acknowledged = new Map<string, Acknowledged>();
  /** Values sent for a key after the last acknowledged one: they may or may not be there. */
  readonly unknown = new Map<string, Set<string>>();
  readonly errors = new Map<string, number>();
  /** Monotonic ms of each acknowledgement. */
  readonly acknowledgedAtMs: number[] = [];
  private readonly client: Client;
  private readonly writers: Promise<void>[] = [];
  private stopped = false;

  constructor(endpoints: readonly string[], writers: number, keysPerWriter = 20, valueBytes = 200) {
    this.client = new Client({ endpoints, timeoutMs: 15_000 });
    const filler = 'x'.repeat(valueBytes);
    for (let w = 0; w < writers; w++) this.writers.push(this.write(w, keysPerWriter, filler));
  }

  get count(): number {
    return this.acknowledgedAtMs.length;
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await Promise.all(this.writers);
    this.client.close();
  }

  /** Reads every key and says what is wrong; nothing when every acknowledged write is there. */
  async lost(endpoint: string): Promise<string[]> {
    const client = new Client({ endpoints: [endpoint] });
    const wrong: string[] = [];
    try {
      for (const [key, { value, revision }] of this.acknowledged) {
        const { kvs } = await client.kv.get(key);
        const found = kvs[0] === undefined ? undefined : Buffer.from(kvs[0].value).toString();
        const allowed =
          found !== undefined && (found === value || (this.unknown.get(key)?.has(found) ?? false));
        if (!allowed || kvs[0]!.modRevision < revision)
          wrong.push(
            `${key}: acknowledged ${value.slice(0, 12)} at ${revision}, found ${found?.slice(0, 12)}`,
          );
      }
    } finally {
      client.close();
    }
    return wrong;
  }

  private async write(writer: number, keys: number, filler: string): Promise<void> {
    for (let n = 0; !this.stopped; n++) {
      const key = `load/${writer}/${n % keys}`;
      const value = `${n} ${filler}`;
      try {
        const { header } = await this.client.kv.put(key, value);
        this.acknowledged.set(key, { value, revision: header!.revision });
        this.unknown.delete(key);
        this.acknowledgedAtMs.push(performance.now());
      } catch (error) {
        const text = error instanceof EtcdError ? error.message : String(error);
        this.errors.set(text, (this.errors.get(text) ?? 0) + 1);
        const unknown = this.unknown.get(key) ?? new Set();
        this.unknown.set(key, unknown.add(value));
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  }
}

/** The longest time between two acknowledgements around a moment. */
export function longestGapMs(times: readonly number[], aroundMs: number): number {
  let gap = 0;
  for (let i = 1; i < times.length; i++) {
    if (times[i]! >= aroundMs) gap = Math.max(gap, times[i]! - times[i - 1]!);
  }
  return gap;
}
