/**
 * ns per operation of the hot codecs beside protobuf-es. Run by hand: node libs/contracts/bench/hot.bench.ts
 * The best of several rounds is shown: the machine is shared.
 */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { utf8 } from '@quoin/base';
import { KeyValueSchema, PutRequestSchema, PutResponseSchema, RangeResponseSchema } from '../src/etcd.ts';
import {
  decodeLinkUp,
  encodeKeyValue,
  encodeLinkUp,
  KeyValueView,
  Method,
  readPutRequest,
  writePutResponse,
  writeRangeResponse,
} from '../src/index.ts';
import { LinkUpSchema } from '../src/internal.ts';

const rounds = 7;
const roundMs = 120;
let sink = 0;

function nsPerCall(run: () => number): number {
  let best = Number.POSITIVE_INFINITY;
  let calls = 64;
  for (let round = 0; round < rounds; ) {
    const start = process.hrtime.bigint();
    for (let i = 0; i < calls; i++) sink += run();
    const ns = Number(process.hrtime.bigint() - start);
    if (ns < roundMs * 1e6) calls = Math.ceil(calls * Math.max(1.3, Math.min(8, (roundMs * 1.1e6) / ns)));
    else {
      best = Math.min(best, ns / calls);
      round++;
    }
  }
  return best;
}

function compare(name: string, ours: () => number, theirs: () => number): void {
  const a = nsPerCall(ours);
  const b = nsPerCall(theirs);
  console.log(
    `${name.padEnd(34)} ${a.toFixed(0).padStart(7)} ns  protobuf-es ${b.toFixed(0).padStart(7)} ns  ×${(b / a).toFixed(1)}`,
  );
}

const key = utf8('/registry/pods/default/nginx-7c5ddbdf54-abcde');
const value = new Uint8Array(256).fill(120);
const header = {
  clusterId: 0xcdf818194e3a8c32n,
  memberId: 0x8e9e05c52164694dn,
  revision: 123_456,
  raftTerm: 7,
};
const bigHeader = { ...header, revision: 123_456n, raftTerm: 7n };
const kv = encodeKeyValue(key, 100, 123_456, 9, value, 0n);
const kvMessage = { key, createRevision: 100n, modRevision: 123_456n, version: 9n, value, lease: 0n };
const put = toBinary(PutRequestSchema, create(PutRequestSchema, { key, value }));
const view = new KeyValueView();

compare(
  'read Put',
  () => readPutRequest(put).value.length,
  () => fromBinary(PutRequestSchema, put).value.length,
);
compare(
  'write KeyValue',
  () => encodeKeyValue(key, 100, 123_456, 9, value, 0n).length,
  () => toBinary(KeyValueSchema, create(KeyValueSchema, kvMessage)).length,
);
compare(
  'read KeyValue',
  () => view.read(kv).modRevision,
  () => fromBinary(KeyValueSchema, kv).key.length,
);
compare(
  'write PutResponse',
  () => writePutResponse(header, undefined).length,
  () => toBinary(PutResponseSchema, create(PutResponseSchema, { header: bigHeader })).length,
);
compare(
  'write RangeResponse of one key',
  () => writeRangeResponse(header, [kv], false, 1)[0]!.length,
  () =>
    toBinary(
      RangeResponseSchema,
      create(RangeResponseSchema, { header: bigHeader, kvs: [kvMessage], count: 1n }),
    ).length,
);

const requests = Array.from({ length: 100 }, (_, i) => ({
  id: 1000 + i,
  method: Method.put,
  body: put,
  timeoutMs: 5000,
  trace: new Uint8Array(0),
  token: '',
  certUser: '',
  own: false,
}));
const up = { hello: undefined, requests, subscribes: [], cancels: [], credits: [] };
const upMessage = create(LinkUpSchema, {
  requests: requests.map((request) => ({ ...request, id: BigInt(request.id), timeoutMs: 5000n })),
});
const upBytes = encodeLinkUp(up).slice();
compare(
  'encode LinkUp of 100 puts',
  () => encodeLinkUp(up).length,
  () => toBinary(LinkUpSchema, upMessage).length,
);
compare(
  'decode LinkUp of 100 puts',
  () => decodeLinkUp(upBytes).requests.length,
  () => fromBinary(LinkUpSchema, upBytes).requests.length,
);
if (sink === 0) console.log(sink);
