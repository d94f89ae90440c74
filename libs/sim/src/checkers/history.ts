/**
 * Linearizability of what clients saw, with unknown outcomes, in one pass and as it happens.
 *
 * The log tells the order of all mutations, marked by operation, so nothing has to be searched: each operation has its
 * place, and that place must lie within the operation's time.
 *
 *     start ──────────────────────────► end
 *       │ floor: the newest revision and      │ the answer is the model's, at the revision that its header names;
 *       │ log position that anybody knew of   │ that revision is not below the floor, nor above what was applied
 *
 * An operation without an answer may be applied later, or never; but not twice, and not before it was sent.
 */

import { utf8Text } from '@quoin/base';
import { type RpcStatus, readRangeRequest } from '@quoin/contracts';
import { readHeader } from '../etcd-messages.ts';
import type { StoreModel } from './model.ts';
import { responseError } from './responses.ts';
import type { Applied, Violation } from './witness.ts';

export type Ending =
  | { readonly kind: 'ok'; readonly body: Uint8Array }
  | { readonly kind: 'error'; readonly status: RpcStatus }
  /** The gateway died before it answered. */
  | { readonly kind: 'lost' };

export interface Operation {
  readonly number: number;
  readonly name: string;
  readonly kind: 'mutation' | 'read' | 'serializableRead' | 'other';
  readonly request: Uint8Array;
  /** The newest revision that any client had heard of when this one began. */
  readonly floorRevision: number;
  readonly floorPosition: number;
  ended: boolean;
}

/** The order of all mutations, and what came of each: from the log as members apply it, or found out afterwards. */
export interface Order {
  readonly model: StoreModel;
  /** Of each client operation, by its number. */
  readonly applied: ReadonlyMap<number, Applied>;
  /** Where in that order a revision was made, where that is known. */
  positionOf?(revision: number): number;
}

/** Errors that a mutation can only get from its place in the log. */
const fromTheLog = new Set([
  'requested lease not found',
  'lease already exists',
  'key not found',
  'user name already exists',
  'user name not found',
  'role name already exists',
  'role name not found',
  'role is not granted to the user',
  'permission is not granted to the role',
  'invalid auth management',
]);

export class History {
  /** Operations begun, and ended well. */
  begun = 0;
  acknowledged = 0;
  /** Ended without telling whether it happened. */
  unknown = 0;
  private readonly operations: Operation[] = [];
  private readonly order: Order;
  private readonly violation: Violation;
  private revisionSeen = 1;
  private positionSeen = 0;

  constructor(order: Order, violation: Violation) {
    this.order = order;
    this.violation = violation;
  }

  get model(): StoreModel {
    return this.order.model;
  }

  /** The number that the next operation will have, for its mark. */
  get nextNumber(): number {
    return this.operations.length + 1;
  }

  begin(kind: Operation['kind'], name: string, request: Uint8Array): Operation {
    const operation: Operation = {
      number: this.nextNumber,
      name,
      kind,
      request,
      floorRevision: this.revisionSeen,
      floorPosition: this.positionSeen,
      ended: false,
    };
    this.operations.push(operation);
    this.begun++;
    return operation;
  }

  /** A client has learned of that revision, in whatever way. */
  seen(revision: number): void {
    if (revision <= this.revisionSeen) return;
    this.revisionSeen = revision;
    this.reached(this.order.positionOf?.(revision) ?? 0);
  }

  /** … and that everything up to that position has been applied somewhere. */
  reached(position: number): void {
    this.positionSeen = Math.max(this.positionSeen, position);
  }

  end(operation: Operation, ending: Ending): void {
    if (operation.ended) this.violation(`${show(operation)} was answered twice`);
    operation.ended = true;
    if (ending.kind === 'ok') this.acknowledged++;
    switch (operation.kind) {
      case 'mutation':
        this.mutationEnded(operation, ending);
        break;
      case 'read':
      case 'serializableRead':
        this.readEnded(operation, ending);
        break;
      case 'other':
        break;
    }
  }

  /** A mutation was applied; whether anybody waits for it does not matter. */
  applied(number: number, applied: Applied): Operation {
    const operation = this.operations[number - 1];
    if (operation === undefined)
      return this.violation(`operation ${number} is in the log, nobody has sent it`);
    if (applied.revisionBefore < operation.floorRevision || applied.position <= operation.floorPosition) {
      this.violation(
        `${show(operation)} took effect at revision ${applied.revisionBefore}, position ${applied.position}, before its time`,
      );
    }
    return operation;
  }

  private mutationEnded(operation: Operation, ending: Ending): void {
    const applied = this.order.applied.get(operation.number);
    if (ending.kind === 'lost') {
      this.unknown++;
    } else if (ending.kind === 'error') {
      this.refused(operation, ending.status, applied);
    } else if (applied === undefined) {
      this.violation(`${show(operation)} was acknowledged, it is not in the log`);
    } else {
      const problem = responseError(ending.body, applied.outcome);
      if (problem !== undefined) this.violation(`${show(operation)}: ${problem}`);
      const { revision } = readHeader(ending.body);
      if (revision !== applied.revisionAfter && operation.name !== 'compact') {
        this.violation(`${show(operation)} tells revision ${revision}, it made ${applied.revisionAfter}`);
      }
      this.seen(applied.revisionAfter);
      this.reached(applied.position);
    }
  }

  private refused(operation: Operation, status: RpcStatus, applied: Applied | undefined): void {
    const text = status.message.replace('etcdserver: ', '');
    if (applied?.outcome.kind === 'refused' && applied.outcome.status.message === status.message) return;
    if (fromTheLog.has(text) || text.startsWith('mvcc: ')) {
      this.violation(`${show(operation)} ended with "${text}", which its place in the log does not say`);
    }
    this.unknown++;
  }

  private readEnded(operation: Operation, ending: Ending): void {
    if (ending.kind === 'lost') return;
    const request = readRangeRequest(operation.request);
    const { model } = this;
    if (ending.kind === 'error') {
      const { message } = ending.status;
      if (message.includes('compacted') && request.revision >= model.compactRevision) {
        this.violation(`${show(operation)}: compacted, at revision ${request.revision}`);
      }
      if (
        message.includes('future') &&
        request.revision <= operation.floorRevision &&
        operation.kind === 'read'
      ) {
        this.violation(`${show(operation)}: revision ${request.revision} is called a future one`);
      }
      return;
    }
    const { revision } = readHeader(ending.body);
    if (revision > model.revision)
      this.violation(`${show(operation)} is of revision ${revision}: not there yet`);
    if (operation.kind === 'read' && revision < operation.floorRevision) {
      this.violation(
        `${show(operation)} is of revision ${revision}; ${operation.floorRevision} was known when it began`,
      );
    }
    const at = request.revision > 0 ? request.revision : revision;
    const all = model.range(utf8Text(request.key), utf8Text(request.rangeEnd), at);
    const kvs = request.limit > 0 ? all.slice(0, request.limit) : all;
    const wanted = { kind: 'range', kvs, more: kvs.length < all.length, count: all.length } as const;
    const problem = responseError(ending.body, wanted);
    if (problem !== undefined) this.violation(`${show(operation)} at revision ${at}: ${problem}`);
    this.seen(revision);
  }
}

export function show(operation: Operation): string {
  return `${operation.name} #${operation.number}`;
}
