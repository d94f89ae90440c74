/** What is measured: the workloads, the shapes, and the floors that Quoin must keep (issue 4). */

export type ShapeId = 'one' | 'nodes' | 'roles';

export const shapes: Readonly<Record<ShapeId, { readonly title: string; readonly etcdNodes: number }>> = {
  one: { title: 'one node', etcdNodes: 1 },
  nodes: { title: '3 nodes', etcdNodes: 3 },
  roles: { title: '3 + 2', etcdNodes: 3 },
};

export interface Workload {
  /** As `--workloads` takes it; also without the number of clients, for all of that kind. */
  readonly id: string;
  readonly title: string;
  /** The load generator's word for it. */
  readonly load: string;
  readonly conns: number;
  readonly clients: number;
  readonly valueBytes: number;
  readonly keys: number;
  /** Every key is put before. */
  readonly fill: boolean;
  /** Certificates on every port, of servers, peers and clients. */
  readonly tls: boolean;
  /** Quoin encrypts its data directories; etcd, which cannot, does not. */
  readonly encrypted: boolean;
  /** What a ratio of this workload is of: operations a second, or how long one takes. */
  readonly judgedBy: 'perSecond' | 'p50Ms';
}

const workload = (id: string, title: string, more: Partial<Workload> = {}): Workload => {
  const [load, clients] = id.split(':') as [string, string];
  return {
    id,
    title,
    load,
    clients: Number(clients),
    conns: Math.min(100, Number(clients)),
    valueBytes: 256,
    keys: 10_000,
    fill: true,
    tls: false,
    encrypted: false,
    judgedBy: 'perSecond',
    ...more,
  };
};

export const workloads: readonly Workload[] = [
  workload('put:1', 'put 256 B, 1 client', { fill: false }),
  workload('put:1000', 'put 256 B, 1,000 clients', { fill: false }),
  workload('put:16000', 'put 256 B, 16,000 clients', { fill: false }),
  workload('put-small:1', 'put 8 B, 1 client', { load: 'put', valueBytes: 8, fill: false }),
  workload('put-small:1000', 'put 8 B, 1,000 clients', { load: 'put', valueBytes: 8, fill: false }),
  workload('get:1', 'linearizable get, 1 client'),
  workload('get:1000', 'linearizable get, 1,000 clients'),
  workload('get:16000', 'linearizable get, 16,000 clients'),
  workload('get-serializable:1', 'serializable get, 1 client'),
  workload('get-serializable:1000', 'serializable get, 1,000 clients'),
  workload('range:10', 'range of 1,000 keys, 10 clients'),
  workload('range-all:10', 'range of 10,000 keys of 1 KB, 10 clients', { valueBytes: 1024 }),
  workload('txn:1000', 'compare and put, 1,000 clients'),
  workload('mixed:1000', '1 put : 9 gets, 1,000 clients'),
  workload('keepalive:1000', 'lease keepalive, 1,000 streams', { fill: false }),
  workload('watch-one:10000', 'one put to 10,000 watchers', { fill: false, judgedBy: 'p50Ms' }),
  workload('put-tls:1000', 'put 256 B over TLS, 1,000 clients', { load: 'put', fill: false, tls: true }),
  workload('get-tls:1000', 'linearizable get over TLS, 1,000 clients', { load: 'get', tls: true }),
  workload('put-encrypted:1000', 'put 256 B, encrypted at rest, 1,000 clients', {
    load: 'put',
    fill: false,
    encrypted: true,
  }),
  workload('get-encrypted:1000', 'linearizable get, encrypted at rest, 1,000 clients', {
    load: 'get',
    encrypted: true,
  }),
  workload('watch-rate:100', 'puts at full rate to 100 watchers, events', { fill: false }),
];

/** Those that `--workloads a,b:1000` names. @throws Error that lists what there is. */
export function chooseWorkloads(words: string | undefined): readonly Workload[] {
  if (words === undefined) return workloads;
  const wanted = words.split(',');
  for (const word of wanted) {
    if (!workloads.some(({ id }) => id === word || id.startsWith(`${word}:`)))
      throw new Error(`there is no workload ${word}; there are ${workloads.map(({ id }) => id).join(', ')}`);
  }
  return workloads.filter(({ id }) => wanted.some((word) => id === word || id.startsWith(`${word}:`)));
}

/** @throws Error that lists what there is. */
export function chooseShapes(words: string | undefined): readonly ShapeId[] {
  const all = Object.keys(shapes) as ShapeId[];
  if (words === undefined) return all;
  const wanted = words.split(',');
  for (const word of wanted)
    if (!all.includes(word as ShapeId))
      throw new Error(`there is no shape ${word}; there are ${all.join(', ')}`);
  return all.filter((shape) => wanted.includes(shape));
}
