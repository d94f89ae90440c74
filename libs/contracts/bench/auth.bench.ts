/** What a permission check costs with many grants: `node libs/contracts/bench/auth.bench.ts`. */
import { utf8 } from '@quoin/base';
import { Authority, authorise, type Caller, putDenied, rangeDenied } from '../src/auth.ts';
import { Method, readPutRequest } from '../src/index.ts';

const grants = 10_000;
const permissions = Array.from({ length: grants }, (_, i) => {
  const name = `/registry/namespaces/team-${String(i).padStart(6, '0')}/`;
  return { type: 2, key: utf8(name), rangeEnd: utf8(`${name.slice(0, -1)}0`) };
});
const authority = new Authority({
  enabled: true,
  revision: 3,
  version: 3,
  users: [{ name: 'app', roles: ['app'] }],
  roles: [{ name: 'app', permissions }],
});
const caller: Caller = { user: 'app', authRevision: 3 };
const none = new Uint8Array(0);

function key(i: number): Uint8Array {
  return utf8(
    `/registry/namespaces/team-${String((i * 7919) % grants).padStart(6, '0')}/pods/web-${i % 100}`,
  );
}

function bytesOf(field: number, bytes: Uint8Array): Uint8Array {
  return Uint8Array.of((field << 3) | 2, bytes.length, ...bytes);
}

const keys = Array.from({ length: 4_096 }, (_, i) => key(i));
const puts = keys.map((each) => bytesOf(1, each));
const views = puts.map((each) => readPutRequest(each));

function measure(name: string, check: (i: number) => unknown): void {
  const rounds = 400_000;
  let denied = 0;
  for (let i = 0; i < 50_000; i++) if (check(i & 4_095) !== undefined) denied++;
  // Of this process, so that what else the machine does counts less.
  const started = process.cpuUsage();
  for (let i = 0; i < rounds; i++) if (check(i & 4_095) !== undefined) denied++;
  const { user, system } = process.cpuUsage(started);
  const ns = ((user + system) * 1e3) / rounds;
  if (denied > 0) throw new Error(`${name}: ${denied} were denied`);
  process.stdout.write(`${name}: ${ns.toFixed(0)} ns\n`);
}

const builtMs = performance.now();
rangeDenied(authority, caller, { key: keys[0]!, rangeEnd: none });
process.stdout.write(
  `first question after a change, ${grants} grants: ${(performance.now() - builtMs).toFixed(1)} ms\n`,
);
measure('range of a key', (i) => rangeDenied(authority, caller, { key: keys[i]!, rangeEnd: none }));
measure('put, decoded', (i) => putDenied(authority, caller, views[i]!, undefined));
measure('put, from its bytes', (i) => authorise(authority, caller, Method.put, puts[i]!, undefined));
