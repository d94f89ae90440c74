/** The gateway role: etcd's client API in front of the members. Stateless; run as many as you like. */
import { runRole, startGatewayNode } from '@quoin/platform';

await runRole('gateway', startGatewayNode);
