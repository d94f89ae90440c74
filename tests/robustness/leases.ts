/** Leases that are granted, given keys, kept alive for a while, and then revoked or left to run out. */
import type { Prng } from '@quoin/base';
import { type Client, EtcdError } from '@quoin/client';
import { Code, etcdErrors } from '@quoin/contracts';
import { etcd, leaseIdBase } from '@quoin/sim';
import type { RecordedUser } from './clients.ts';
import type { Recorder } from './recorder.ts';

const keepAliveTimeoutMs = 2_000;

export class LeaseHolder {
  private readonly isWorking: () => boolean;
  private readonly user: RecordedUser;
  private readonly recorder: Recorder;
  private readonly client: Client;
  private readonly prng: Prng;

  constructor(isWorking: () => boolean, user: RecordedUser, recorder: Recorder, client: Client) {
    this.isWorking = isWorking;
    this.user = user;
    this.recorder = recorder;
    this.client = client;
    this.prng = user.prng;
  }

  begin(): void {
    this.user.later(100, () => {
      if (!this.isWorking()) return;
      const sentMs = this.recorder.nowMs;
      const ttlSeconds = 1 + this.prng.below(3);
      const build = (n: number): Uint8Array => etcd.leaseGrantRequest(ttlSeconds, leaseIdBase + BigInt(n));
      this.user.mutate('grant', build, (ending, { number }) => {
        if (ending.kind !== 'ok') return this.begin();
        const lease = leaseIdBase + BigInt(number);
        const granted = Number(etcd.varint(ending.body, 24));
        this.recorder.leaseLives(lease, granted, sentMs);
        this.attach(lease, granted);
      });
    });
  }

  private attach(lease: bigint, ttlSeconds: number): void {
    // One key that all holders write, so that leases take it from each other.
    const key = this.prng.chance(0.8) ? `l${lease - leaseIdBase}` : 'l';
    this.user.mutate(
      'put',
      (n) => etcd.putRequest(key, `v${n}`, { lease }),
      () => void this.hold(lease, ttlSeconds, 1 + this.prng.below(6)),
    );
  }

  private async hold(lease: bigint, ttlSeconds: number, times: number): Promise<void> {
    for (let i = 0; i < times && this.isWorking(); i++) {
      await new Promise((resolve) => setTimeout(resolve, (ttlSeconds * 1_000 * 2 * this.prng.float()) / 3));
      const sentMs = this.recorder.nowMs;
      try {
        const { TTL } = await this.client.lease.keepAliveOnce(lease, { timeoutMs: keepAliveTimeoutMs });
        this.recorder.leaseLives(lease, Number(TTL), sentMs);
      } catch (error) {
        if (!(error instanceof EtcdError)) throw error;
        if (error.code !== Code.notFound || error.message !== etcdErrors.leaseNotFound.message) continue;
        this.recorder.lease('leaseGone', lease);
        return this.begin();
      }
    }
    if (!this.isWorking() || this.prng.chance(0.6)) return this.begin();
    this.recorder.lease('leaseGivenUp', lease);
    this.user.mutate(
      'revoke',
      () => etcd.idRequest(lease),
      () => this.begin(),
    );
  }
}
