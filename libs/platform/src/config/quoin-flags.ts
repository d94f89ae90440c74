/** Flags that etcd does not have, and what rows of the table are made of. */
import type { FlagKind, FlagStatus, Role } from './flags.ts';

export const everyRole: readonly Role[] = ['quoin', 'member', 'gateway'];
export const stores: readonly Role[] = ['quoin', 'member'];
export const serves: readonly Role[] = ['quoin', 'gateway'];

export interface Extra {
  readonly status?: FlagStatus;
  readonly note?: string;
  readonly roles?: readonly Role[];
  readonly etcd?: boolean;
}

export type Row = readonly [name: string, kind: FlagKind, fallback: string, help: string, extra?: Extra];

export const on = (roles: readonly Role[]): Extra => ({ roles });

export const quoinFlags: readonly Row[] = [
  ['fair-use', 'string', '', 'YAML or JSON file of limits for users and prefixes. Empty: none.'],
  ['audit-log', 'string', '', 'File for one JSON line about every request. Empty: none.', on(serves)],
  [
    'audit-log-reads',
    'bool',
    'true',
    'Whether requests that change nothing are in the audit log.',
    on(serves),
  ],
  [
    'lease-reads',
    'bool',
    'false',
    'Experimental: linearizable reads without a round while the leader has a lease. The same on all members. A clock that drifts by more than a tenth, or a suspended machine, may make a read stale.',
    { roles: stores, etcd: false },
  ],
  [
    'members',
    'list',
    'http://localhost:2380',
    'Peer URLs of members; the gateway learns of the others from them.',
    { roles: ['gateway'], etcd: false },
  ],
  [
    'zone',
    'string',
    '',
    'Where this node stands, such as eu-1a: gateways read from a member of their own zone. Empty: not said.',
    { etcd: false },
  ],
  [
    'max-connection-age',
    'duration',
    '0s',
    'Age, give or take a tenth, at which a client connection is asked to move on (GOAWAY; Connection: close), so that clients spread over new gateways. 0: never.',
    { roles: serves, etcd: false },
  ],
  [
    'max-connection-age-grace',
    'duration',
    '30s',
    'Time from there until a connection is closed whose calls have not ended; watches go on elsewhere.',
    { roles: serves, etcd: false },
  ],
  [
    'shutdown-delay',
    'duration',
    '0s',
    'Time from a signal, when /readyz turns, until clients are turned away: for a balancer to notice.',
    { roles: serves, etcd: false },
  ],
  [
    'ready-max-loop-delay',
    'duration',
    '500ms',
    'Mean lateness of timers over a second above which /readyz says no. 0: not looked at.',
    { roles: serves, etcd: false },
  ],
  [
    'ready-max-connections',
    'uint',
    '0',
    'Client connections above which /readyz says no. 0: any number.',
    { roles: serves, etcd: false },
  ],
  [
    'encryption-key-file',
    'string',
    '',
    'Keys for data at rest, one a line: a name and 32 bytes in base64. The first is used from now on.',
    { roles: stores, etcd: false },
  ],
  [
    'encryption-key-command',
    'string',
    '',
    'Shell command that prints what --encryption-key-file would hold.',
    { roles: stores, etcd: false },
  ],
  [
    'gateway-cert-allowed-cn',
    'list',
    '',
    'Common names of which the certificate of a gateway must have one. Empty: as for peers.',
    { roles: stores, etcd: false },
  ],
  [
    'gateway-cert-allowed-hostname',
    'list',
    '',
    'Names of which the certificate of a gateway must be valid for one. Empty: as for peers.',
    { roles: stores, etcd: false },
  ],
];
