/** etcd's messages about users, roles and grants, as far as simulated clients send them. */
import { utf8 } from '@quoin/base';
import { WireWriter } from '@quoin/contracts';

const writer = new WireWriter(512);

/** Fields 1, 2, … as text; an empty one is not there. */
export function textRequest(...fields: string[]): Uint8Array {
  writer.begin(128);
  fields.forEach((text, i) => {
    writer.bytes(((i + 1) << 3) | 2, utf8(text));
  });
  return writer.finish().slice();
}

export interface Permission {
  /** 0 READ, 1 WRITE, 2 READWRITE. */
  readonly type: number;
  readonly key: string;
  readonly end: string;
}

/** RoleGrantPermissionRequest{name=1, perm=2{permType=1, key=2, range_end=3}}. */
export function grantPermissionRequest(role: string, { type, key, end }: Permission): Uint8Array {
  writer.begin(64);
  writer.int(8, type);
  writer.bytes(18, utf8(key));
  writer.bytes(26, utf8(end));
  const perm = writer.finish().slice();
  writer.begin(128);
  writer.bytes(10, utf8(role));
  writer.bytesItem(18, perm);
  return writer.finish().slice();
}
