/** Keys, values and the answers that carry them, in every output format. */
import { type DescMessage, type Message, type MessageShape, toBinary } from '@bufbuild/protobuf';
import {
  type DeleteRangeResponse,
  DeleteRangeResponseSchema,
  type Event,
  Event_EventType,
  EventSchema,
  type KeyValue,
  type PutResponse,
  PutResponseSchema,
  type RangeResponse,
  RangeResponseSchema,
  type ResponseHeader,
  ResponseHeaderSchema,
  type TxnResponse,
  TxnResponseSchema,
  type WatchResponse,
} from '@quoin/contracts/etcd';
import type { Context } from './context.ts';
import { goQuote } from './go-format.ts';
import { messageJson } from './message-json.ts';

export interface KvShape {
  readonly valueOnly?: boolean;
}

/** Bytes as they are, or as \x61\x62 with --hex; and a line end. */
function writeLine(context: Context, bytes: Uint8Array): void {
  if (!context.hex) {
    process.stdout.write(bytes);
    process.stdout.write('\n');
    return;
  }
  let text = '';
  for (const byte of bytes) text += `\\x${byte.toString(16).padStart(2, '0')}`;
  context.print(text);
}

export function printKv(context: Context, kv: KeyValue, shape: KvShape = {}): void {
  if (shape.valueOnly !== true) writeLine(context, kv.key);
  writeLine(context, kv.value);
}

/** json and protobuf are the same for every message. True when it was printed. */
export function printMessage<D extends DescMessage>(
  context: Context,
  desc: D,
  message: MessageShape<D>,
): boolean {
  if (context.format === 'json') context.print(messageJson(desc, message as Message));
  else if (context.format === 'protobuf') process.stdout.write(toBinary(desc, message));
  else return false;
  return true;
}

export function printHeaderFields(context: Context, header: ResponseHeader | undefined): void {
  context.print(`"ClusterID" : ${header?.clusterId ?? 0n}`);
  context.print(`"MemberID" : ${header?.memberId ?? 0n}`);
  context.print(`"Revision" : ${header?.revision ?? 0n}`);
  context.print(`"RaftTerm" : ${header?.raftTerm ?? 0n}`);
}

function kvFields(context: Context, prefix: string, kv: KeyValue): void {
  context.print(`"${prefix}Key" : ${goQuote(kv.key)}`);
  context.print(`"${prefix}CreateRevision" : ${kv.createRevision}`);
  context.print(`"${prefix}ModRevision" : ${kv.modRevision}`);
  context.print(`"${prefix}Version" : ${kv.version}`);
  context.print(`"${prefix}Value" : ${goQuote(kv.value)}`);
  context.print(`"${prefix}Lease" : ${kv.lease}`);
}

export function printRange(
  context: Context,
  response: RangeResponse,
  shape: KvShape & { countOnly?: boolean } = {},
): void {
  if (printMessage(context, RangeResponseSchema, response)) return;
  if (context.format !== 'fields') {
    if (shape.countOnly === true) context.print(String(response.count));
    for (const kv of response.kvs) printKv(context, kv, shape);
    return;
  }
  printHeaderFields(context, response.header);
  for (const kv of response.kvs) kvFields(context, '', kv);
  context.print(`"More" : ${response.more}`);
  context.print(`"Count" : ${response.count}`);
}

export function printPut(context: Context, response: PutResponse): void {
  if (printMessage(context, PutResponseSchema, response)) return;
  if (context.format === 'fields') {
    printHeaderFields(context, response.header);
    if (response.prevKv !== undefined) kvFields(context, 'Prev', response.prevKv);
    return;
  }
  context.print('OK');
  if (response.prevKv !== undefined) printKv(context, response.prevKv);
}

export function printDelete(context: Context, response: DeleteRangeResponse): void {
  if (printMessage(context, DeleteRangeResponseSchema, response)) return;
  if (context.format === 'fields') {
    printHeaderFields(context, response.header);
    context.print(`"Deleted" : ${response.deleted}`);
    for (const kv of response.prevKvs) kvFields(context, 'Prev', kv);
    return;
  }
  context.print(String(response.deleted));
  for (const kv of response.prevKvs) printKv(context, kv);
}

export function printTxn(context: Context, response: TxnResponse): void {
  if (printMessage(context, TxnResponseSchema, response)) return;
  const fields = context.format === 'fields';
  if (fields) {
    printHeaderFields(context, response.header);
    context.print(`"Succeeded" : ${response.succeeded}`);
  } else context.print(response.succeeded ? 'SUCCESS' : 'FAILURE');
  for (const { response: each } of response.responses) {
    if (!fields) context.print('');
    if (each.case === 'responseRange') printRange(context, each.value);
    else if (each.case === 'responsePut') printPut(context, each.value);
    else if (each.case === 'responseDeleteRange') printDelete(context, each.value);
    else if (each.case === 'responseTxn') printTxn(context, each.value);
  }
}

const eventName = (event: Event): string => (event.type === Event_EventType.DELETE ? 'DELETE' : 'PUT');

export function printWatch(context: Context, response: WatchResponse): void {
  const header = response.header;
  if (context.format === 'json') {
    const head = header === undefined ? '{}' : messageJson(ResponseHeaderSchema, header);
    const events = response.events.map((event) => messageJson(EventSchema, event)).join(',');
    context.print(
      `{"Header":${head},"Events":[${events}],"CompactRevision":${response.compactRevision},"Canceled":${response.canceled},"Created":${response.created}}`,
    );
    return;
  }
  if (context.format === 'fields') printHeaderFields(context, header);
  for (const event of response.events) {
    if (context.format === 'fields') {
      context.print(`"Type" : ${eventName(event)}`);
      if (event.prevKv !== undefined) kvFields(context, 'Prev', event.prevKv);
      if (event.kv !== undefined) kvFields(context, '', event.kv);
      continue;
    }
    context.print(eventName(event));
    if (event.prevKv !== undefined) printKv(context, event.prevKv);
    if (event.kv !== undefined) printKv(context, event.kv);
  }
}
