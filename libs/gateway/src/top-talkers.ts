/**
 * Who makes the load: requests and bytes by user and by the beginning of the key, in bounded memory and at a bounded cost.
 *
 * Counted is a sample, every n-th request for n; n follows the load, so that about `samplesPerSecond` are looked at and a
 * quiet gateway counts every one. The sketch is Space-Saving (Metwally, Agrawal, El Abbadi 2005): a newcomer takes the place
 * and the count of the least, so counts are never too low, and whoever has more than 1/size of all is there.
 */
import { type Clock, hex, isUtf8, type MetricRegistry, ScrapedMetric, utf8Text } from '@quoin/base';

const samplesPerSecond = 1_000;
/** How often n is chosen anew. */
const reviewMs = 1_000;
const burstSamples = 64;
/** Names that are counted, and how many of them are shown. */
const sketchSize = 256;
const shownMax = 20;
const prefixBytesMax = 64;
/** Of keys that have no separator. */
const plainPrefixBytes = 8;
const slash = 0x2f;

interface Talker {
  readonly name: string;
  requests: number;
  bytes: number;
}

export class TopSketch {
  private readonly talkers = new Map<string, Talker>();

  add(name: string, requests: number, bytes: number): void {
    let talker = this.talkers.get(name);
    if (talker === undefined) {
      const least = this.talkers.size < sketchSize ? undefined : this.least();
      if (least !== undefined) this.talkers.delete(least.name);
      talker = { name, requests: least?.requests ?? 0, bytes: least?.bytes ?? 0 };
      this.talkers.set(name, talker);
    }
    talker.requests += requests;
    talker.bytes += bytes;
  }

  top(): Talker[] {
    return [...this.talkers.values()].sort((a, b) => b.requests - a.requests).slice(0, shownMax);
  }

  private least(): Talker | undefined {
    let least: Talker | undefined;
    for (const talker of this.talkers.values())
      if (least === undefined || talker.requests < least.requests) least = talker;
    return least;
  }
}

export class TopTalkers {
  private readonly clock: Clock;
  private readonly prefixes = new TopSketch();
  private readonly users = new TopSketch();
  private stride = 1;
  private left = 1;
  private counted = 0;
  private reviewedMs: number;

  constructor(registry: MetricRegistry, clock: Clock) {
    this.clock = clock;
    this.reviewedMs = clock.monotonicMs();
    const show = (label: 'prefix' | 'user', sketch: TopSketch): void => {
      const add = (what: 'requests' | 'bytes', help: string): void => {
        registry.add(
          new ScrapedMetric('counter', `quoin_gateway_${label}_${what}_total`, help, [label], () =>
            sketch.top().map((talker) => [[talker.name], talker[what]] as const),
          ),
        );
      };
      add('requests', `Requests of the busiest, by ${label}; an estimate.`);
      add('bytes', `Bytes of requests of the busiest, by ${label}; an estimate.`);
    };
    show('prefix', this.prefixes);
    show('user', this.users);
  }

  /** One more request. True: this one is to be told of by `note`. */
  sample(): boolean {
    if (--this.left > 0) return false;
    this.counted++;
    this.review();
    this.left = this.stride;
    return true;
  }

  /** `key`: of what the request names first; undefined when it names none. `user`: empty when there is none. */
  note(key: Uint8Array | undefined, user: string, bytes: number): void {
    const { stride } = this;
    if (key !== undefined) this.prefixes.add(prefixOf(key), stride, bytes * stride);
    if (user !== '') this.users.add(user, stride, bytes * stride);
  }

  private review(): void {
    const passedMs = this.clock.monotonicMs() - this.reviewedMs;
    // A burst is not waited out.
    const isBurst = this.counted >= burstSamples && this.counted * 1_000 > 2 * samplesPerSecond * passedMs;
    if (passedMs < reviewMs && !isBurst) return;
    const perSecond = (this.counted * this.stride * 1_000) / Math.max(passedMs, 1);
    this.stride = Math.max(1, Math.round(perSecond / samplesPerSecond));
    this.counted = 0;
    this.reviewedMs += passedMs;
  }
}

/** Up to the second separator, as /registry/pods/, one less where the key does not begin with it; as text. */
export function prefixOf(key: Uint8Array): string {
  const wanted = key[0] === slash ? 3 : 2;
  let end = 0;
  for (let i = 0, found = 0; i < key.length && i < prefixBytesMax && found < wanted; i++) {
    if (key[i] !== slash) continue;
    end = i + 1;
    found++;
  }
  const prefix = key.subarray(0, end > 1 ? end : plainPrefixBytes);
  return isUtf8(prefix) ? utf8Text(prefix) : `0x${hex(prefix)}`;
}
