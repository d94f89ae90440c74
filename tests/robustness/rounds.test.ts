/**
 * Real processes under failures, in the share that every `npm test` can afford: `npm run robustness` runs for hours. And
 * proof that its checks can fail: the recording of a clean round, spoiled in one place, is never taken for a clean one.
 */
import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  EventSchema,
  RangeResponseSchema,
  ResponseHeaderSchema,
  type WatchResponse,
  WatchResponseSchema,
} from '@quoin/contracts/etcd';
import { etcd } from '@quoin/sim';
import { afterAll, describe, expect, test } from 'vitest';
import { repositoryRoot } from '../support/child.ts';
import { check } from './check.ts';
import { type Entry, type Recording, readRecording } from './recorder.ts';
import type { RoundReport } from './round.ts';

const roundSeconds = 15;
const linux = process.platform === 'linux';
if (!linux) process.stdout.write('robustness: skipped, who opens a connection is only known on Linux\n');

let clean: RoundReport | undefined;

afterAll(() => {
  if (clean?.dir !== undefined) rmSync(dirname(clean.dir), { recursive: true, force: true });
});

async function round(seed: number, ...args: string[]): Promise<RoundReport> {
  const script = join(repositoryRoot, 'tools', 'robustness.ts');
  const child = spawn(
    process.execPath,
    [script, '--json', '--rounds=1', `--round-seconds=${roundSeconds}`, `--seed=${seed}`, ...args],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let out = '';
  for await (const part of child.stdout) out += part;
  const [report] = JSON.parse(out) as [RoundReport];
  const { failure, dir, operations, acknowledged, faults, skipped, longestPause } = report;
  process.stdout.write(
    `robustness seed ${seed}: ${operations} operations, ${acknowledged} acknowledged, faults ${JSON.stringify(faults)}, longest pause in writes ${longestPause.ms} ms${skipped === undefined ? '' : `; ${skipped}`}\n`,
  );
  expect(failure, `history and logs: ${dir}`).toBeUndefined();
  // A round in which nothing happens proves nothing.
  if (!args.includes('--faults=none')) expect(Object.keys(faults).length).toBeGreaterThan(0);
  expect(acknowledged).toBeGreaterThan(20);
  return report;
}

describe.skipIf(!linux)('real processes', () => {
  test('killed, paused, cut off: every promise is kept', async () => {
    await round(3, '--faults=kill,pause,partition');
  }, 180_000);

  test('slow, full and stopped disks, delays and broken connections: every promise is kept', async () => {
    await round(9, '--faults=disk,network');
  }, 180_000);

  describe('a spoiled recording is noticed', () => {
    const spoiled: [string, (from: Recording) => Entry[], RegExp][] = [
      ['an acknowledged write is nowhere', lostWrite, /what it changes is not in the watch history/],
      ['a write takes effect twice', doubleWrite, /took effect twice/],
      ['a value that nobody wrote', phantom, /was written by nobody/],
      [
        'a delete that nobody asked for',
        strayDelete,
        /was asked for by nobody|makes|is not in the watch history/,
      ],
      ['a read of an older state', staleRead, /was known when it began/],
      ['a read of an older state that calls itself new', forgedRead, /the range has|count/],
      [
        'a read of what is not written yet',
        earlyRead,
        /nobody has sent it|before its time|was asked for by nobody/,
      ],
      [
        'a watch event twice',
        (from) => editWatch(from, (list) => [...list, list.at(-1)!]),
        /got .*(, not|where)/,
      ],
      ['a watch event left out', (from) => editWatch(from, () => []), /got .*, not|has a bookmark at/],
      ['watch events out of order', swapped, /got .*, not|has a bookmark at/],
      ['a revision in two responses', split, /in part/],
      ['a bookmark before its events', earlyBookmark, /has a bookmark at/],
      ['a watch that lost its end', lostEnd, /was never told of/],
      ['a revision that no watch has', missingRevision, /is in nobody's watch history/],
      ['a lease that ended too early', shortLease, /it was promised until/],
      ['a compaction that nobody asked for', strayCompaction, /there was none/],
    ];

    // Without faults: long enough on the slowest day.
    test('as it is, it is clean', async () => {
      clean = await round(3, '--faults=none', '--keep', '--round-seconds=8');
      expect(check(recording()).acknowledged).toBe(clean.acknowledged);
    }, 180_000);
    for (const [name, spoil, message] of spoiled) {
      test(name, () => {
        const { watchers, entries } = recording();
        expect(() => check({ watchers, entries: spoil({ watchers, entries }) })).toThrow(message);
      });
    }
  });
});

function recording(): Recording {
  expect(clean, 'the first round failed').toBeDefined();
  return readRecording(join(clean!.dir!, 'history.jsonl'));
}

type Watch = Extract<Entry, { readonly watcher: string }>;

const isWatch = (entry: Entry): entry is Watch =>
  entry.what === 'watch' && etcd.fields(entry.response, 90).length > 0;

function replaced(entries: readonly Entry[], at: number, ...by: Entry[]): Entry[] {
  return [...entries.slice(0, at), ...by, ...entries.slice(at + 1)];
}

function decode(entry: Entry): WatchResponse {
  return fromBinary(WatchResponseSchema, (entry as Watch).response);
}

function encoded(entry: Entry, response: WatchResponse): Watch {
  return { ...(entry as Watch), response: toBinary(WatchResponseSchema, response) };
}

/** A response in the middle of what a watcher of everything that is no collector's was told: no fragments, no filter. */
function someWatch(
  { watchers, entries }: Recording,
  wanted: (response: WatchResponse) => boolean = () => true,
): number {
  const plain = [...watchers].filter(([name, spec]) => !name.startsWith('all-') && !spec.fragment);
  const found = entries.flatMap((entry, i) =>
    isWatch(entry) && plain.some(([name]) => name === entry.watcher) && wanted(decode(entry)) ? [i] : [],
  );
  expect(found.length).toBeGreaterThan(0);
  return found[found.length >> 1]!;
}

/** Nothing of a watcher from its last events on. */
function lostEnd({ watchers, entries }: Recording): Entry[] {
  const names = [...watchers.keys()].filter((name) => !name.startsWith('all-'));
  const last = entries.findLastIndex((entry) => isWatch(entry) && names.includes(entry.watcher));
  const { watcher } = entries[last] as Watch;
  return entries.filter((entry, i) => i < last || !('watcher' in entry) || entry.watcher !== watcher);
}

/** Changes one response of one watcher: to the list of responses that it is given. */
function editWatch(from: Recording, edit: (list: Entry[]) => Entry[]): Entry[] {
  const at = someWatch(from);
  return replaced(from.entries, at, ...edit([from.entries[at]!]));
}

/** A response comes after the one that it was before. */
function swapped(from: Recording): Entry[] {
  const first = someWatch(from);
  const { watcher } = from.entries[first] as Watch;
  const second = from.entries.findIndex(
    (entry, i) => i > first && isWatch(entry) && entry.watcher === watcher,
  );
  return replaced(replaced(from.entries, second, from.entries[second]!, from.entries[first]!), first);
}

function split(from: Recording): Entry[] {
  const isWhole = ({ events }: WatchResponse): boolean =>
    events.length > 1 && events.at(-1)!.kv!.modRevision === events.at(-2)!.kv!.modRevision;
  const at = someWatch(from, isWhole);
  const entry = from.entries[at]!;
  const { events } = decode(entry);
  const part = (which: typeof events): Watch => encoded(entry, { ...decode(entry), events: which });
  return replaced(from.entries, at, part(events.slice(0, -1)), part(events.slice(-1)));
}

function earlyBookmark(from: Recording): Entry[] {
  const at = someWatch(from);
  const entry = from.entries[at]!;
  return replaced(from.entries, at, encoded(entry, { ...decode(entry), events: [] }), entry);
}

/** Every collector's responses, changed. */
function editCollectors(from: Recording, edit: (response: WatchResponse) => void): Entry[] {
  return from.entries.map((entry) => {
    if (!isWatch(entry) || !entry.watcher.startsWith('all-')) return entry;
    const response = decode(entry);
    edit(response);
    return encoded(entry, response);
  });
}

/** Revisions of single puts of marked values, some way into the history. */
function somePut(from: Recording, skip = 0): { revision: bigint; value: Uint8Array } {
  const events = from.entries
    .filter(isWatch)
    .filter(({ watcher }) => watcher === 'all-1')
    .flatMap((entry) => decode(entry).events)
    .filter(({ type, kv }) => type === 0 && /^v\d+/.test(Buffer.from(kv!.value).toString()));
  const { modRevision: revision, value } = events[(events.length >> 1) + skip]!.kv!;
  return { revision, value };
}

function editPut(from: Recording, value: Uint8Array, at: bigint): Entry[] {
  return editCollectors(from, ({ events }) => {
    for (const event of events) if (event.type === 0 && event.kv!.modRevision === at) event.kv!.value = value;
  });
}

function doubleWrite(from: Recording): Entry[] {
  return editPut(from, somePut(from).value, somePut(from, 3).revision);
}

function phantom(from: Recording): Entry[] {
  return editPut(from, Buffer.from('v99999999'), somePut(from).revision);
}

function strayDelete(from: Recording): Entry[] {
  const { revision } = somePut(from);
  return editCollectors(from, (response) => {
    response.events = response.events.map((event) =>
      event.kv!.modRevision !== revision
        ? event
        : create(EventSchema, { type: 1, kv: { key: event.kv!.key, modRevision: revision } }),
    );
  });
}

function missingRevision(from: Recording): Entry[] {
  const { revision } = somePut(from);
  return editCollectors(from, (response) => {
    response.events = response.events.filter((event) => event.kv!.modRevision !== revision);
  });
}

function lostWrite({ entries }: Recording): Entry[] {
  const revision = newest(entries);
  const operation = entries.filter((entry) => entry.what === 'begin').length + 1;
  const header = create(ResponseHeaderSchema, { revision: BigInt(revision) });
  // PutResponse and RangeResponse both have the header first.
  const body = toBinary(RangeResponseSchema, create(RangeResponseSchema, { header }));
  const atMs = entries.at(-1)!.atMs;
  const request = etcd.putRequest('k1', `v${operation}`);
  return [
    ...entries,
    { what: 'begin', atMs, operation, kind: 'mutation', name: 'put', user: 'kv0', request },
    { what: 'end', atMs, operation, ending: { kind: 'ok', body } },
  ];
}

function newest(entries: readonly Entry[]): number {
  return Math.max(
    ...entries.map((entry) =>
      entry.what === 'end' && entry.ending.kind === 'ok' ? etcd.readHeader(entry.ending.body).revision : 0,
    ),
  );
}

interface Read {
  readonly at: number;
  readonly entry: Extract<Entry, { readonly what: 'end' }>;
  readonly body: Uint8Array;
  readonly revision: number;
}

/** Answers to linearizable reads of all accounts, which change all the time. */
function reads({ entries }: Recording): Read[] {
  const wanted = Buffer.from(etcd.rangeRequest('b', { end: 'c' }));
  const asked = new Set<number>();
  const found: Read[] = [];
  for (const [at, entry] of entries.entries()) {
    if (entry.what === 'begin' && entry.kind === 'read' && wanted.equals(entry.request))
      asked.add(entry.operation);
    if (entry.what !== 'end' || !asked.has(entry.operation) || entry.ending.kind !== 'ok') continue;
    const { body } = entry.ending;
    found.push({ at, entry, body, revision: etcd.readHeader(body).revision });
  }
  expect(found.length).toBeGreaterThan(5);
  return found;
}

function answered(from: Recording, read: Read, body: Uint8Array): Entry[] {
  return replaced(from.entries, read.at, { ...read.entry, ending: { kind: 'ok', body } });
}

function staleRead(from: Recording): Entry[] {
  const all = reads(from);
  return answered(from, all.at(-1)!, all[1]!.body);
}

function forgedRead(from: Recording): Entry[] {
  const all = reads(from);
  const body = fromBinary(RangeResponseSchema, all[1]!.body);
  body.header = fromBinary(RangeResponseSchema, all.at(-1)!.body).header!;
  return answered(from, all.at(-1)!, toBinary(RangeResponseSchema, body));
}

/** The answer of a later read, given to an earlier one. */
function earlyRead(from: Recording): Entry[] {
  const all = reads(from);
  return answered(from, all[1]!, all.at(-1)!.body);
}

function shortLease(from: Recording): Entry[] {
  const lives = from.entries.findIndex((entry) => entry.what === 'leaseLives');
  const entry = from.entries[lives]! as Extract<Entry, { readonly what: 'leaseLives' }>;
  const { lease, atMs } = entry;
  const end: Entry = { what: 'leaseGone', atMs: atMs + 100, lease };
  return replaced(from.entries, lives, { ...entry, ttlSeconds: 3_600 }, end);
}

function strayCompaction(from: Recording): Entry[] {
  const at = someWatch(from);
  const { watcher, atMs } = from.entries[at] as Watch;
  const response = toBinary(
    WatchResponseSchema,
    create(WatchResponseSchema, { canceled: true, compactRevision: BigInt(newest(from.entries)) }),
  );
  return replaced(from.entries, at, { what: 'watchCanceled', atMs, watcher, start: 0, response });
}
