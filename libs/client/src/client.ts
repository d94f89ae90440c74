import { AuthClient } from './auth.ts';
import { ClusterClient } from './cluster.ts';
import { KvClient } from './kv.ts';
import { LeaseClient } from './lease.ts';
import { MaintenanceClient } from './maintenance.ts';
import type { ClientOptions } from './options.ts';
import { ElectionClient, LockClient } from './services.ts';
import { Transport } from './transport.ts';
import { WatchClient } from './watch.ts';

/** A client of an etcd-compatible cluster. Connects on first use; close it, or the process does not end. */
export class Client {
  readonly kv: KvClient;
  readonly watch: WatchClient;
  readonly lease: LeaseClient;
  readonly cluster: ClusterClient;
  readonly maintenance: MaintenanceClient;
  readonly auth: AuthClient;
  readonly lock: LockClient;
  readonly election: ElectionClient;
  /** Any method of the API: `client.transport.unary(KV.method.range, {…})`. */
  readonly transport: Transport;

  /** @throws Error when an endpoint is malformed. */
  constructor(options: ClientOptions) {
    this.transport = new Transport(options);
    this.kv = new KvClient(this.transport);
    this.watch = new WatchClient(this.transport);
    this.lease = new LeaseClient(this.transport);
    this.cluster = new ClusterClient(this.transport);
    this.maintenance = new MaintenanceClient(this.transport);
    this.auth = new AuthClient(this.transport);
    this.lock = new LockClient(this.transport);
    this.election = new ElectionClient(this.transport);
  }

  endpoints(): string[] {
    return this.transport.endpointUrls();
  }

  /** Takes the client URLs that the members publish as the new endpoints. */
  async sync(): Promise<void> {
    const { members } = await this.cluster.memberList();
    const urls = members.filter((member) => !member.isLearner).flatMap((member) => member.clientURLs);
    if (urls.length > 0) this.transport.setEndpoints(urls);
  }

  /** Ends watches, keepalives and connections. Leases stay. */
  close(): void {
    this.watch.close();
    this.lease.close();
    this.transport.close();
  }
}
