/** Alarms that are active: part of the replicated state, changed only at apply. */
import { readU32BE, readU64BE, writeU32BE, writeU64BE } from '@quoin/base';
import type { Store } from '@quoin/mvcc';
import { Table } from './records.ts';

/** AlarmType of etcd's API. */
export const AlarmType = { none: 0, noSpace: 1, corrupt: 2 } as const;

const names: Readonly<Record<number, string>> = { 0: 'NONE', 1: 'NOSPACE', 2: 'CORRUPT' };

export function alarmName(type: number): string {
  return names[type] ?? String(type);
}

export interface Alarm {
  /** 0n: nobody in particular, when it cannot be told who is wrong. */
  readonly memberId: bigint;
  /** An `AlarmType`; one that this version does not know is kept as it is. */
  readonly type: number;
}

/** As etcd's Status writes it. */
export function alarmText({ memberId, type }: Alarm): string {
  return memberId === 0n ? `alarm:${alarmName(type)}` : `memberID:${memberId} alarm:${alarmName(type)}`;
}

const raised: Uint8Array = new Uint8Array(0);

function alarmKey({ memberId, type }: Alarm): Uint8Array {
  const key = new Uint8Array(12);
  writeU32BE(key, 0, type);
  writeU64BE(key, 4, memberId);
  return key;
}

export class Alarms {
  /** By type, then by member. */
  private active: Alarm[] = [];

  static load(store: Store): Alarms {
    const alarms = new Alarms();
    store.scanRecords(Table.alarms, (key) => {
      alarms.active.push({ type: readU32BE(key, 0), memberId: readU64BE(key, 4) });
    });
    return alarms;
  }

  /** A new cluster begins without the alarms of the one that its state comes from. */
  static clear(store: Store): void {
    for (const alarm of Alarms.load(store).active) store.putRecord(Table.alarms, alarmKey(alarm), null);
  }

  /** `AlarmType.none`: all of them. */
  list(type: number): readonly Alarm[] {
    return type === AlarmType.none ? this.active : this.active.filter((alarm) => alarm.type === type);
  }

  has(type: number): boolean {
    return this.active.some((alarm) => alarm.type === type);
  }

  isActive({ memberId, type }: Alarm): boolean {
    return this.active.some((alarm) => alarm.type === type && alarm.memberId === memberId);
  }

  /** At apply. */
  activate(store: Store, alarm: Alarm): void {
    if (this.isActive(alarm)) return;
    this.active.push(alarm);
    this.active.sort((a, b) => a.type - b.type || (a.memberId < b.memberId ? -1 : 1));
    store.putRecord(Table.alarms, alarmKey(alarm), raised);
  }

  /** At apply. False when it was not active. */
  deactivate(store: Store, alarm: Alarm): boolean {
    if (!this.isActive(alarm)) return false;
    this.active = this.active.filter((each) => each.type !== alarm.type || each.memberId !== alarm.memberId);
    store.putRecord(Table.alarms, alarmKey(alarm), null);
    return true;
  }
}
