/** Random sequences of requests over a small key space, for fast-check to make and to shrink. */
import fc, { type Arbitrary } from 'fast-check';
import { authSequence } from './generate-auth.ts';
import type { Fields, Value } from './message.ts';
import type { OracleVersion } from './oracle.ts';
import type { Step } from './step.ts';

export interface GenerateOptions {
  /** What the table of differences says cannot be asked of an older one is not generated for it. */
  readonly oracle: OracleVersion;
  /** Longest sequence. */
  readonly steps: number;
}

type Weighted<T> = readonly (readonly [weight: number, arbitrary: Arbitrary<T>])[];

function pick<T>(choices: Weighted<T>): Arbitrary<T> {
  return fc.oneof(...choices.map(([weight, arbitrary]) => ({ weight, arbitrary })));
}

const oneOf = <T>(...values: readonly T[]): Arbitrary<T> => fc.constantFrom(...values);

/** A record of which each field is there or not; `usual` are nearly always. */
function fields(
  usual: Record<string, Arbitrary<Value>>,
  rare: Record<string, Arbitrary<Value>> = {},
): Arbitrary<Fields> {
  const maybe = Object.fromEntries(
    Object.entries(rare).map(([name, each]) => [name, fc.option(each, { nil: undefined, freq: 3 })]),
  );
  return fc.record({ ...usual, ...maybe }) as Arbitrary<Fields>;
}

const key = pick<Value>([
  [30, oneOf('a', 'b', 'c')],
  [12, oneOf('aa', 'ab', 'd/1', 'd/2', 'd/3')],
  [4, oneOf('b\0', '\xff', '\0', 'a\xff', 'zz')],
  [1, fc.constant('')],
]);

const rangeEnd = pick<Value>([
  [10, fc.constant('')],
  [6, oneOf('b', 'c', 'd', 'd0', 'e')],
  [3, fc.constant('\0')],
  [2, oneOf('\xff', 'a', 'aa')],
]);

const value = oneOf<Value>('', '1', '2', '10', 'x', '\0', '\xff\xfe', 'v'.repeat(60));

/** Sequences count from the revision at which they begin. */
const at = fc.integer({ min: -2, max: 14 }).map((n): Value => ({ at: n }));
const revision = pick<Value>([
  [12, fc.constant(0)],
  [8, at],
  [1, oneOf<Value>(-1, { at: 5_000 }, 9_007_199_254_740_993n, -9_223_372_036_854_775_808n)],
]);
// Quoin's counters end at 2^53: beyond it the answer could not name the revision.
const hashRevision = pick<Value>([
  [1, fc.constant(0)],
  [1, at],
  [1, oneOf<Value>(-1, { at: 5_000 })],
]);
const bound = pick<Value>([
  [5, at],
  [1, oneOf<Value>(1, 2, -1)],
]);

/** Leases with ids that the sequence chooses, and some with ids that the server chooses. */
const slot = fc.integer({ min: 0, max: 4 });
const servedSlot = fc.integer({ min: 5, max: 6 });
const leaseOf = pick<Value>([
  [6, slot.map((n): Value => ({ lease: n }))],
  [1, servedSlot.map((n): Value => ({ lease: n }))],
  [1, oneOf<Value>(424242, -7)],
]);

const flag = fc.boolean() as Arbitrary<Value>;

const range = fields(
  { key, rangeEnd },
  {
    limit: oneOf<Value>(1, 2, 3, 100, -1),
    revision,
    sortOrder: pick<Value>([
      [9, oneOf(0, 1, 2)],
      [1, oneOf(3, -1)],
    ]),
    sortTarget: pick<Value>([
      [12, oneOf(0, 1, 2, 3, 4)],
      [1, oneOf(5, -2)],
    ]),
    serializable: flag,
    keysOnly: flag,
    countOnly: fc.constant(true),
    minModRevision: bound,
    maxModRevision: bound,
    minCreateRevision: bound,
    maxCreateRevision: bound,
  },
);

const put = pick<Fields>([
  [8, fields({ key, value }, { lease: leaseOf, prevKv: flag })],
  [2, fields({ key }, { ignoreValue: flag, ignoreLease: flag, lease: leaseOf, value, prevKv: flag })],
]);

const deleteRange = fields({ key, rangeEnd }, { prevKv: flag });

const compareTargets: Weighted<Fields> = [
  [5, fields({ version: oneOf<Value>(0, 1, 2, 3) }).map((f) => ({ target: 0, ...f }))],
  [
    4,
    fields({
      createRevision: pick<Value>([
        [2, fc.constant(0)],
        [3, at],
      ]),
    }).map((f) => ({ target: 1, ...f })),
  ],
  [
    5,
    fields({
      modRevision: pick<Value>([
        [2, fc.constant(0)],
        [3, at],
      ]),
    }).map((f) => ({ target: 2, ...f })),
  ],
  [4, fields({ value }).map((f) => ({ target: 3, ...f }))],
  [
    2,
    fields({
      lease: pick<Value>([
        [1, fc.constant(0)],
        [2, leaseOf],
      ]),
    }).map((f) => ({ target: 4, ...f })),
  ],
  // A value that does not fit its target, no value at all, targets that there are not.
  [1, fields({ target: oneOf<Value>(0, 1, 2, 3, 4, 5, -1), version: oneOf<Value>(0, 1) })],
  [1, fields({ target: oneOf<Value>(0, 1, 2, 3, 4) })],
];

const compare = fc
  .tuple(
    fields(
      {
        key,
        result: pick<Value>([
          [12, oneOf(0, 1, 2, 3)],
          [1, oneOf(4, -1)],
        ]),
      },
      { rangeEnd },
    ),
    pick(compareTargets),
  )
  .map(([common, target]): Fields => ({ ...common, ...target }));

function requestOp(depth: number): Arbitrary<Fields> {
  const nested: Weighted<Fields> =
    depth > 0 ? [[2, txn(depth - 1).map((requestTxn): Fields => ({ requestTxn }))]] : [];
  return pick<Fields>([
    [5, range.map((requestRange): Fields => ({ requestRange }))],
    [7, put.map((requestPut): Fields => ({ requestPut }))],
    [4, deleteRange.map((requestDeleteRange): Fields => ({ requestDeleteRange }))],
    ...nested,
  ]);
}

function txn(depth: number): Arbitrary<Fields> {
  const branch = fc.array(requestOp(depth), { maxLength: depth > 1 ? 4 : 2 }) as Arbitrary<Value>;
  return fields({
    compare: fc.array(compare, { maxLength: 2 }) as Arbitrary<Value>,
    success: branch,
    failure: branch,
  });
}

const call = (rpc: string, request: Arbitrary<Fields>): Arbitrary<Step> =>
  request.map((each): Step => ({ rpc, request: each }));

/** Long enough that none ends by itself before the sequence does. */
const ttl = oneOf<Value>(600, 1_000, 50_000, 9_000_000_000, 9_000_000_001);

const leaseSteps: Weighted<Step> = [
  [5, slot.chain((n) => call('LeaseGrant', fields({ TTL: ttl, ID: fc.constant<Value>({ lease: n }) })))],
  [1, fc.tuple(servedSlot, ttl).map(([n, TTL]): Step => ({ rpc: 'LeaseGrant', request: { TTL }, slot: n }))],
  [3, call('LeaseRevoke', fields({ ID: leaseOf }))],
  [3, call('LeaseTimeToLive', fields({ ID: leaseOf, keys: flag }))],
  [1, call('LeaseLeases', fields({}))],
  [
    2,
    fc.array(leaseOf, { minLength: 1, maxLength: 3 }).map(
      ([first, ...more]): Step => ({
        rpc: 'LeaseKeepAlive',
        request: { ID: first! },
        more: more.map((ID) => ({ ID })),
      }),
    ),
  ],
];

const stream = fc.integer({ min: 0, max: 1 });
const watchId = pick<Value>([
  [6, fc.constant(0)],
  [2, oneOf<Value>(1, 2, 7)],
  [1, oneOf<Value>(-1, -5)],
]);
const filters = oneOf<Value>([], [0], [1], [0, 1], [0, 0], [7]);

const watchCreate = fields(
  { key, rangeEnd },
  {
    startRevision: pick<Value>([
      [6, at],
      [1, oneOf<Value>(-1, { at: 30 }, 1)],
    ]),
    watchId,
    filters,
    prevKv: fc.constant(true),
    progressNotify: flag,
    fragment: flag,
  },
);

const watchSteps: Weighted<Step> = [
  [5, fc.tuple(stream, watchCreate).map(([watch, create]): Step => ({ watch, create }))],
  [2, fc.tuple(stream, fc.integer({ min: -1, max: 4 })).map(([watch, cancel]): Step => ({ watch, cancel }))],
  [1, stream.map((watch): Step => ({ watch, progress: true }))],
];

/** Each name has one lease, so that nobody waits for a lock. */
const concurrencySteps: Weighted<Step> = [
  [
    2,
    slot.map(
      (n): Step => ({
        rpc: 'Lock',
        request: { name: `L${n}`, lease: { lease: n } },
        keep: { as: `L${n}`, field: 'key' },
      }),
    ),
  ],
  [1, slot.map((n): Step => ({ rpc: 'Unlock', request: { key: { kept: `L${n}` } } }))],
  [
    2,
    fc.tuple(slot, value).map(
      ([n, each]): Step => ({
        rpc: 'Campaign',
        request: { name: `E${n}`, lease: { lease: n }, value: each },
        keep: { as: `E${n}`, field: 'leader' },
      }),
    ),
  ],
  [
    1,
    fc
      .tuple(slot, value)
      .map(([n, each]): Step => ({ rpc: 'Proclaim', request: { leader: { kept: `E${n}` }, value: each } })),
  ],
  [2, slot.map((n): Step => ({ rpc: 'Leader', request: { name: `E${n}` } }))],
  [1, slot.map((n): Step => ({ rpc: 'Resign', request: { leader: { kept: `E${n}` } } }))],
];

/** Requests about the cluster that change nothing: they fail, or tell. */
const clusterSteps: Weighted<Step> = [
  [1, call('MemberList', fields({}, { linearizable: flag }))],
  [
    1,
    call(
      'MemberAdd',
      fields({ peerURLs: oneOf<Value>([], ['nonsense'], ['http://'], ['ftp://127.0.0.1:1']) }),
    ),
  ],
  [1, call('MemberRemove', fields({ ID: oneOf<Value>(0, 7) }))],
  [
    1,
    call(
      'MemberUpdate',
      fields({ ID: oneOf<Value>(0, 7), peerURLs: oneOf<Value>([], ['http://127.0.0.1:1'], ['x']) }),
    ),
  ],
  [1, call('MemberPromote', fields({ ID: oneOf<Value>(0, 7) }))],
  [1, call('MoveLeader', fields({ targetID: oneOf<Value>(0, 7) }))],
  [1, call('Status', fields({}))],
  [1, call('Defragment', fields({}))],
  [1, call('Alarm', fields({ action: fc.constant<Value>(0), alarm: oneOf<Value>(0, 1, 2) }))],
];

const compactStep = call(
  'Compact',
  fields(
    {
      revision: pick<Value>([
        [6, at],
        [1, revision],
      ]),
    },
    { physical: flag },
  ),
);

const kvSteps = (oracle: OracleVersion): Weighted<Step> => [
  [18, call('Range', range)],
  [26, call('Put', put)],
  [8, call('DeleteRange', deleteRange)],
  [18, call('Txn', txn(2))],
  ...(oracle === '3.7' ? ([[4, call('RangeStream', range)]] as const) : []),
];

const alarm = fields({ memberID: oneOf<Value>(7, 8), alarm: oneOf<Value>(0, 1, 2) });

const alarmSteps: Weighted<Step> = [
  [3, alarm.map((each): Step => ({ rpc: 'Alarm', request: { action: 1, ...each } }))],
  [3, alarm.map((each): Step => ({ rpc: 'Alarm', request: { action: 2, ...each } }))],
  [2, alarm.map((each): Step => ({ rpc: 'Alarm', request: { action: 0, ...each } }))],
];

/** Most sequences are about keys, leases and watches; some about who may do what; some about alarms. */
export function sequences(options: GenerateOptions): Arbitrary<Step[]> {
  const kv = kvSteps(options.oracle);
  const plain = pick<Step>([
    ...kv,
    [3, compactStep],
    [14, pick(leaseSteps)],
    [14, pick(watchSteps)],
    [4, pick(concurrencySteps)],
    ...(options.oracle === '3.7' ? ([[1, call('HashKV', fields({ revision: hashRevision }))]] as const) : []),
    [2, pick(clusterSteps)],
  ]);
  // The harness itself could not write while an alarm is raised, which watches need it to.
  const alarmed = pick<Step>([
    ...kv,
    [8, pick(leaseSteps.slice(0, 4))],
    [3, compactStep],
    [2, pick(concurrencySteps)],
    [10, pick(alarmSteps)],
  ]);
  const guarded = pick<Step>([
    ...kv,
    [3, compactStep],
    [14, pick(leaseSteps)],
    [8, pick(watchSteps.slice(0, 1))],
    [3, pick(concurrencySteps)],
    [5, pick(clusterSteps)],
    [2, pick(alarmSteps.slice(2))],
    [2, call('HashKV', fields({ revision: hashRevision }))],
  ]);
  const several = (step: Arbitrary<Step>, most: number): Arbitrary<Step[]> =>
    fc.array(step, { minLength: 1, maxLength: most, size: 'max' });
  if (options.oracle === '3.4')
    return several(plain, options.steps).map((steps) =>
      steps.map((each) => survivable(onlyKnown(each) as Step)),
    );
  return pick<Step[]>([
    [80, several(plain, options.steps)],
    [12, authSequence(guarded, (step) => several(step, options.steps))],
    [8, several(alarmed, options.steps)],
  ]).map((steps) => steps.map((step) => ('rpc' in step && step.rpc === 'Txn' ? survivable(step) : step)));
}

/** See the row `ignore-after-delete`. */
function survivable(step: Step): Step {
  const text = JSON.stringify(step, (_, value) => (typeof value === 'bigint' ? String(value) : value));
  const gap = text.includes('requestTxn') || text.includes('"rangeEnd":"\\u0000"');
  return gap && text.includes('requestDeleteRange') ? (withoutIgnore(step) as Step) : step;
}

function withoutIgnore(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutIgnore);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name]) => name !== 'ignoreValue' && name !== 'ignoreLease')
      .map(([name, inner]) => [name, withoutIgnore(inner)]),
  );
}

/** Without what 3.4 cannot be asked: see the rows of the table of differences that have no `adapt`. */
function onlyKnown(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(onlyKnown);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => {
      const beyond =
        (name === 'sortOrder' && !(inner >= 0 && inner <= 2)) ||
        (name === 'sortTarget' && !(inner >= 0 && inner <= 4)) ||
        (name === 'startRevision' && typeof inner === 'number' && inner < 0);
      return [name, beyond ? undefined : onlyKnown(inner)];
    }),
  );
}
