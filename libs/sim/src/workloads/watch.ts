/** Watchers that follow a range for the whole run, over every break, and lose nothing. */

import { utf8 } from '@quoin/base';
import { WireWriter } from '@quoin/contracts';
import { WatchChecker, type WatchSpec, watchFlags } from '../checkers/watch.ts';
import { readHeader } from '../etcd-messages.ts';
import type { FrontStream } from '../front.ts';
import { SimUser, type World } from '../world.ts';

export function runWatcher(world: World, name: string): void {
  new Follower(world, name).open();
}

const path = '/etcdserverpb.Watch/Watch';

class Follower {
  private readonly world: World;
  private readonly user: SimUser;
  private readonly checker: WatchChecker;
  private readonly name: string;
  private stream: FrontStream | undefined;

  constructor(world: World, name: string) {
    this.world = world;
    this.name = name;
    this.user = new SimUser(world, name);
    this.stream = undefined;
    const { prng } = this.user;
    const range = prng.pick([
      ['k', 'l'],
      ['k', 'l'],
      ['b', 'c'],
      ['l', 'm'],
      ['\0', '\0'],
      [`k${prng.below(world.plan.keys)}`, ''],
    ]) as [string, string];
    const filter = prng.below(8);
    const spec: WatchSpec = {
      key: range[0],
      end: range[1],
      noPut: filter === 0,
      noDelete: filter === 1,
      prevKv: prng.chance(0.5),
      fragment: prng.chance(0.3),
    };
    this.checker = new WatchChecker(name, spec, world.witness.model, (message) => world.violation(message));
    world.watchers.push(this.checker);
  }

  open(): void {
    const { checker, user, world } = this;
    const { prng } = user;
    const stream = user.client.stream(user.pickFront(), path);
    this.stream = stream;
    checker.broken();
    // A watch that has not been told where it begins starts anew.
    const start = checker.next === 0 && prng.chance(0.5) ? 1 : checker.next;
    stream.send(createRequest(checker.spec, start, prng.chance(0.5)));
    stream.onMessage = (response) => this.take(stream, response, start);
    stream.onEnd = (reason) => {
      world.trace.add(() => `${this.name} ended: ${reason}`);
      this.reopen();
    };
    this.fidget(stream);
  }

  private reopen(): void {
    this.stream?.cancel();
    this.user.later(20, () => this.open());
  }

  private take(stream: FrontStream, response: Uint8Array, start: number): void {
    if (stream !== this.stream) return;
    const { checker, world } = this;
    const { created, canceled, reason } = watchFlags(response);
    const { revision } = readHeader(response);
    world.trace.add(() => `${this.name} hears of ${revision}${canceled ? ` canceled ${reason}` : ''}`);
    if (canceled) {
      const compacted = checker.canceled(response);
      if (compacted === 0 && reason !== '') world.violation(`watcher ${this.name} was cancelled: ${reason}`);
      this.stream = undefined;
      stream.cancel();
      this.reopen();
    } else if (created) {
      checker.created(response, start);
    } else {
      checker.response(response);
    }
    world.history.seen(Math.min(revision, world.witness.model.revision));
  }

  /** Asks for progress, stops reading for a while, or goes to another gateway. */
  private fidget(stream: FrontStream): void {
    const { prng } = this.user;
    this.user.later(300, () => {
      if (stream !== this.stream || stream.isOver) return;
      const kind = this.world.working ? prng.below(10) : 0;
      if (kind < 5) {
        stream.send(progressRequest);
      } else if (kind < 7) {
        stream.pause();
        this.user.later(400, () => stream.resume());
      } else if (kind < 8) {
        this.stream = undefined;
        stream.cancel();
        this.reopen();
        return;
      }
      this.fidget(stream);
    });
  }
}

const writer = new WireWriter(256);

/** WatchRequest{progress_request{}}. */
const progressRequest = new Uint8Array([26, 0]);

function createRequest(spec: WatchSpec, startRevision: number, progressNotify: boolean): Uint8Array {
  writer.begin(128);
  writer.bytes(10, utf8(spec.key));
  writer.bytes(18, utf8(spec.end));
  writer.int(24, startRevision);
  writer.bool(32, progressNotify);
  if (spec.noPut) writer.uintItem(40, 0);
  if (spec.noDelete) writer.uintItem(40, 1);
  writer.bool(48, spec.prevKv);
  writer.bool(64, spec.fragment);
  const create = writer.finish().slice();
  writer.begin(create.length + 8);
  writer.bytesItem(10, create);
  return writer.finish().slice();
}
