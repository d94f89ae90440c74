import type { Distribution, LabelledHistogram } from '@quoin/base';
import { Method, methodName } from '@quoin/contracts';

/** etcd's names where they are not those of the method with a capital. */
const etcdNames: Partial<Record<number, string>> = {
  [Method.compact]: 'Compaction',
  [Method.attributes]: 'ClusterMemberAttrSet',
  [Method.downgrade]: 'DowngradeInfoSet',
};

function operationName(method: number): string {
  const name = methodName(method);
  const known = etcdNames[method];
  if (known !== undefined) return known;
  const capital = `${name[0]!.toUpperCase()}${name.slice(1)}`;
  return method >= Method.userAdd && method <= Method.roleRevokePermission ? `Auth${capital}` : capital;
}

/** Times by method and outcome; finding one costs two steps and allocates only the first time. */
export class OperationTimes {
  private readonly histogram: LabelledHistogram;
  /** Labels before and after the operation's name. */
  private readonly before: readonly string[];
  private readonly succeeded: (Distribution | undefined)[] = [];
  private readonly failed: (Distribution | undefined)[] = [];
  private readonly readonlyTxns: (Distribution | undefined)[] = [];

  /** `histogram`: with the labels `before`, the operation, success. */
  constructor(histogram: LabelledHistogram, before: readonly string[]) {
    this.histogram = histogram;
    this.before = before;
  }

  observe(method: number, success: boolean, durationMs: number): void {
    const known = success ? this.succeeded : this.failed;
    const times = known[method] ?? this.make(known, method, operationName(method), success);
    times.observe(durationMs / 1_000);
  }

  /** A transaction that only reads has a name of its own. */
  observeReadonlyTxn(success: boolean, durationMs: number): void {
    const slot = success ? 1 : 0;
    const times = this.readonlyTxns[slot] ?? this.make(this.readonlyTxns, slot, 'ReadonlyTxn', success);
    times.observe(durationMs / 1_000);
  }

  private make(
    known: (Distribution | undefined)[],
    slot: number,
    name: string,
    success: boolean,
  ): Distribution {
    const made = this.histogram.at([...this.before, name, String(success)]);
    known[slot] = made;
    return made;
  }
}
