import { Prng, type Span, type SpanAttributes, type Tracer, traceContextBytes } from '@quoin/base';
import type { MemberLimits } from '@quoin/member';
import { SimClient, SimCluster, type SimClusterOptions, SimDisk, SimNode } from '@quoin/sim';
import { expect } from 'vitest';

export interface Started {
  readonly cluster: SimCluster;
  readonly client: SimClient;
}

/** A cluster with a leader and a client. SIM_LOG=1 prints what members say. */
export function started(
  seed: number,
  members = 3,
  limits: Partial<MemberLimits> = {},
  more: Partial<SimClusterOptions> = {},
): Started {
  const log = process.env['SIM_LOG'] === undefined ? {} : { log: (line: string) => console.log(line) };
  const cluster = new SimCluster({ seed, members, limits, ...log, ...more });
  cluster.start();
  const client = new SimClient(cluster, 'client');
  cluster.waitForLeader();
  cluster.run(200);
  return { cluster, client };
}

/** All running members are at the same index with the same state. */
export function expectEqualStates(cluster: SimCluster): void {
  cluster.settle();
  const hashes = cluster.stateHashes();
  expect(new Set(hashes.map((h) => `${h.index} ${h.hash}`)).size).toBe(1);
}

/** The machine under that name has a new, empty disk. */
export function emptied(cluster: SimCluster, node: SimNode, seed: number): SimNode {
  cluster.crash(node);
  const fresh = new SimNode(node.name, node.clock, new SimDisk(new Prng(seed)));
  cluster.nodes[cluster.nodes.indexOf(node)] = fresh;
  return fresh;
}

export function follower(cluster: SimCluster): SimNode {
  const leader = cluster.waitForLeader();
  return cluster.nodes.find((node) => node !== leader)!;
}

/** What was done when, of all nodes. */
export class RecordingTracer implements Tracer {
  readonly names: string[] = [];
  /** Attributes of what was done in turns, by name. */
  readonly batches: { readonly name: string; readonly attributes: SpanAttributes }[] = [];
  start(name: string, parent: Uint8Array): Span {
    return {
      context: parent,
      startMs: 0,
      end: () => void this.names.push(name),
      fail: () => void this.names.push(`${name}!`),
    };
  }
  root(name: string): Span {
    return this.start(name, new Uint8Array(traceContextBytes));
  }
  record(name: string, _parent: Uint8Array, startMs: number, endMs: number): void {
    expect(endMs, name).toBeGreaterThanOrEqual(startMs);
    this.names.push(name);
  }
  recordBelow(name: string, startMs: number, endMs: number): void {
    expect(endMs, name).toBeGreaterThanOrEqual(startMs);
    this.names.push(name);
  }
  batch(
    name: string,
    startMs: number,
    endMs: number,
    links: readonly Uint8Array[],
    attributes: SpanAttributes,
  ): void {
    expect(endMs, name).toBeGreaterThanOrEqual(startMs);
    this.names.push(`${name} of ${links.length}`);
    this.batches.push({ name, attributes });
  }
}
