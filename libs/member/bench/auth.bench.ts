/**
 * What a change of authentication costs with 10,000 grants, in one role and in a hundred: `node libs/member/bench/auth.bench.ts`.
 * Each line is the least of some tries in ms of CPU; the first, when code is cold, before it.
 */
import { utf8 } from '@quoin/base';
import { Authority, decodeAuthView } from '@quoin/contracts/auth';
import type { Store } from '@quoin/mvcc';
import { AuthStore } from '../src/auth-store.ts';

const grants = 10_000;
const users = 100;
const tries = 9;
/** Of which only records are written. */
const store = { putRecord: () => {} } as unknown as Store;

function grant(auth: AuthStore, role: string, n: number): void {
  const key = `k/${String((n * 7919) % 100_000).padStart(6, '0')}`;
  auth.roleGrantPermission(store, role, { type: 2, key: utf8(key), rangeEnd: utf8(`${key}0`) });
}

function filled(roles: number): AuthStore {
  const auth = new AuthStore();
  for (let r = 0; r < roles; r++) auth.roleAdd(store, `r${r}`);
  for (let n = 0; n < grants; n++) grant(auth, `r${n % roles}`, n);
  for (let u = 0; u < users; u++) {
    auth.userAdd(store, `u${u}`, true, undefined);
    auth.userGrantRole(store, `u${u}`, `r${u % roles}`);
  }
  return auth;
}

function time(name: string, run: () => void): void {
  let first = 0;
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < tries; i++) {
    const before = process.cpuUsage();
    run();
    const { user, system } = process.cpuUsage(before);
    const ms = (user + system) / 1_000;
    if (i === 0) first = ms;
    least = Math.min(least, ms);
  }
  console.log(`  ${name.padEnd(52)} ${first.toFixed(2)} then ${least.toFixed(2)}`);
}

for (const roles of [1, 100]) {
  const auth = filled(roles);
  let n = grants;
  console.log(`${grants} grants in ${roles} roles, a view of ${auth.encodedView.length} bytes`);
  time('member: a grant', () => grant(auth, 'r0', n++));
  time('member: a grant, and the view for gateways', () => {
    grant(auth, 'r0', n++);
    void auth.encodedView;
  });
  time('member: a grant, and the first check of its user', () => {
    grant(auth, 'r0', n++);
    auth.authority.of('u0');
  });
  let view = decodeAuthView(auth.encodedView);
  let authority = new Authority(view);
  time('gateway: a grant told, and the first check of its user', () => {
    grant(auth, 'r0', n++);
    view = decodeAuthView(auth.encodedView, view);
    authority = new Authority(view, authority);
    authority.of('u0');
  });
}
