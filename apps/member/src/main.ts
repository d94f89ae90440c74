/** The member role: one replica of the cluster, on the peer port. */
import { runRole, startMemberNode } from '@quoin/platform';

await runRole('member', startMemberNode);
