/**
 * Downgrade: whether the cluster's data is to be readable by the etcd release before. There is no older Quoin to go back
 * to, so what it changes is the version that snapshots in etcd's format carry, which that release then takes.
 */
import { utf8, utf8Text } from '@quoin/base';
import { etcdErrors, type RpcStatus } from '@quoin/contracts';
import type { Store } from '@quoin/mvcc';
import { clusterVersion, storageVersion } from './config.ts';
import { Table } from './records.ts';

const targetKey = utf8('downgrade');

/** major.minor[.patch]; what follows a patch is of no consequence. */
const versionForm = /^(\d+)\.(\d+)(?:\.\d+(?:[-+].*)?)?$/;

export class Downgrade {
  /** Such as `3.6.0`; empty: none is under way. */
  target: string;

  private constructor(target: string) {
    this.target = target;
  }

  static load(store: Store): Downgrade {
    const record = store.getRecord(Table.cluster, targetKey);
    return new Downgrade(record === undefined ? '' : utf8Text(record));
  }

  /** What the data says it is. */
  get storageVersion(): string {
    return this.target === '' ? storageVersion : this.target;
  }

  /** Why the cluster cannot go to that version, in etcd's order; one minor down is all there is. */
  error(version: string): RpcStatus | undefined {
    const match = versionForm.exec(version);
    if (match === null) return etcdErrors.wrongDowngradeVersionFormat;
    if (targetOf(match) !== allowedTarget) return etcdErrors.invalidDowngradeTargetVersion;
    return this.target === '' ? undefined : etcdErrors.downgradeInProcess;
  }

  /** At apply. */
  enable(store: Store, version: string): RpcStatus | undefined {
    const problem = this.error(version);
    if (problem !== undefined) return problem;
    this.target = targetOf(versionForm.exec(version)!);
    store.putRecord(Table.cluster, targetKey, utf8(this.target));
    return undefined;
  }

  /** At apply. etcd does not mind when there is none. */
  cancel(store: Store): void {
    if (this.target === '') return;
    this.target = '';
    store.putRecord(Table.cluster, targetKey, null);
  }
}

function targetOf(match: RegExpExecArray): string {
  return `${Number(match[1])}.${Number(match[2])}.0`;
}

const allowedTarget = oneMinorDown(clusterVersion);

function oneMinorDown(version: string): string {
  const [major, minor] = version.split('.').map(Number);
  return `${major}.${minor! - 1}.0`;
}
