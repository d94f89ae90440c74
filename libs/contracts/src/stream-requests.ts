/** Readers of lease and watch requests; the rules are those of requests.ts. */
import { emptyBytes } from '@quoin/base';
import { WireReader } from './wire-reader.ts';

export interface LeaseGrantRequestView {
  /** Seconds. */
  ttl: number;
  /** 0n: the server chooses. */
  id: bigint;
}

export interface LeaseRevokeRequestView {
  id: bigint;
}

export interface LeaseKeepAliveRequestView {
  id: bigint;
}

export interface LeaseTimeToLiveRequestView {
  id: bigint;
  keys: boolean;
}

/** Chosen by a client and echoed to it: any int64. A bigint only where a number is not exact, so `===` and Map keys hold. */
export type WatchId = number | bigint;

export interface WatchCreateRequestView {
  key: Uint8Array;
  rangeEnd: Uint8Array;
  /** 0: from now on. */
  startRevision: number;
  progressNotify: boolean;
  /** Filters: puts, or deletes, are left out. */
  noPut: boolean;
  noDelete: boolean;
  prevKv: boolean;
  /** 0: the server chooses. */
  watchId: WatchId;
  fragment: boolean;
}

export interface WatchCancelRequestView {
  watchId: WatchId;
}

/** `none`: nothing was asked, or something that this version does not know; etcd ignores it. */
export type WatchRequestView =
  | { readonly kind: 'create'; readonly request: WatchCreateRequestView }
  | { readonly kind: 'cancel'; readonly request: WatchCancelRequestView }
  | { readonly kind: 'progress'; readonly request: undefined }
  | { readonly kind: 'none'; readonly request: undefined };

/** @throws WireError */
export function readLeaseGrantRequest(bytes: Uint8Array): LeaseGrantRequestView {
  const reader = new WireReader(bytes);
  const into: LeaseGrantRequestView = { ttl: 0, id: 0n };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) into.ttl = reader.int53Clamped();
    else if (tag === 16) into.id = reader.int64();
    else reader.skip(tag);
  }
  return into;
}

function readId(bytes: Uint8Array): { id: bigint } {
  const reader = new WireReader(bytes);
  const into = { id: 0n };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) into.id = reader.int64();
    else reader.skip(tag);
  }
  return into;
}

/** @throws WireError */
export function readLeaseRevokeRequest(bytes: Uint8Array): LeaseRevokeRequestView {
  return readId(bytes);
}

/** @throws WireError */
export function readLeaseKeepAliveRequest(bytes: Uint8Array): LeaseKeepAliveRequestView {
  return readId(bytes);
}

/** @throws WireError */
export function readLeaseTimeToLiveRequest(bytes: Uint8Array): LeaseTimeToLiveRequestView {
  const reader = new WireReader(bytes);
  const into: LeaseTimeToLiveRequestView = { id: 0n, keys: false };
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) into.id = reader.int64();
    else if (tag === 16) into.keys = reader.bool();
    else reader.skip(tag);
  }
  return into;
}

/** The request has no fields: only proves that the bytes are a message. @throws WireError */
export function readLeaseLeasesRequest(bytes: Uint8Array): void {
  skipAll(new WireReader(bytes));
}

const noRequest: WatchRequestView = Object.freeze({ kind: 'none', request: undefined });
const progressRequest: WatchRequestView = Object.freeze({ kind: 'progress', request: undefined });

/** @throws WireError */
export function readWatchRequest(bytes: Uint8Array): WatchRequestView {
  const reader = new WireReader(bytes);
  let view = noRequest;
  while (reader.more()) {
    const tag = reader.tag();
    if (tag !== 10 && tag !== 18 && tag !== 26) {
      reader.skip(tag);
      continue;
    }
    const outer = reader.enter();
    if (tag === 10) {
      view = {
        kind: 'create',
        request: mergeCreate(reader, view.kind === 'create' ? view.request : newCreate()),
      };
    } else if (tag === 18) {
      view = {
        kind: 'cancel',
        request: mergeCancel(reader, view.kind === 'cancel' ? view.request : { watchId: 0 }),
      };
    } else {
      skipAll(reader);
      view = progressRequest;
    }
    reader.leave(outer);
  }
  return view;
}

function newCreate(): WatchCreateRequestView {
  return {
    key: emptyBytes,
    rangeEnd: emptyBytes,
    startRevision: 0,
    progressNotify: false,
    noPut: false,
    noDelete: false,
    prevKv: false,
    watchId: 0,
    fragment: false,
  };
}

function mergeCreate(reader: WireReader, into: WatchCreateRequestView): WatchCreateRequestView {
  while (reader.more()) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        into.key = reader.bytes();
        break;
      case 18:
        into.rangeEnd = reader.bytes();
        break;
      case 24:
        into.startRevision = reader.int53Clamped();
        break;
      case 32:
        into.progressNotify = reader.bool();
        break;
      case 40:
        addFilter(into, reader.int32());
        break;
      case 42: {
        // Packed: what proto3 writers send; one by one (above) must be understood too.
        const outer = reader.enter();
        while (reader.more()) addFilter(into, reader.int32());
        reader.leave(outer);
        break;
      }
      case 48:
        into.prevKv = reader.bool();
        break;
      case 56:
        into.watchId = reader.int64Exact();
        break;
      case 64:
        into.fragment = reader.bool();
        break;
      default:
        reader.skip(tag);
    }
  }
  return into;
}

function addFilter(into: WatchCreateRequestView, filter: number): void {
  if (filter === 0) into.noPut = true;
  else if (filter === 1) into.noDelete = true;
}

function mergeCancel(reader: WireReader, into: WatchCancelRequestView): WatchCancelRequestView {
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 8) into.watchId = reader.int64Exact();
    else reader.skip(tag);
  }
  return into;
}

function skipAll(reader: WireReader): void {
  while (reader.more()) reader.skip(reader.tag());
}
