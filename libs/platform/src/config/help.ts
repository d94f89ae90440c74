import type { FlagSpec, Role } from './flags.ts';

const summaries: Readonly<Record<Role, string>> = {
  quoin: "Every role in one process: an etcd-compatible key-value store. Takes etcd's flags.",
  member: 'A replica: consensus, log and store on the peer port. Clients are served by gateways.',
  gateway: "A stateless server of etcd's client API in front of the members.",
};

/** The text of `--help`: flags by group, each with its default and, where it has no effect, why. */
export function helpText(role: Role, table: readonly FlagSpec[]): string {
  const program = role === 'quoin' ? 'quoin' : `quoin-${role}`;
  const lines = [
    `${program}: ${summaries[role]}`,
    '',
    'Usage:',
    `  ${program} [flags]`,
    `  ${program} --version`,
    `  ${program} --config-file FILE   YAML or JSON; all other flags and variables are then ignored`,
    '',
    'Every flag has a variable: --data-dir is QUOIN_DATA_DIR or ETCD_DATA_DIR. Flags win over variables.',
  ];
  let group = '';
  for (const spec of table) {
    if (spec.status === 'legacy') continue;
    if (spec.group !== group) {
      group = spec.group;
      lines.push('', `${group}:`);
    }
    const fallback = spec.default === '' ? '' : ` (default ${spec.default})`;
    const note =
      spec.note === '' ? '' : ` [${spec.status === 'notYet' ? 'not supported' : 'no effect'}: ${spec.note}]`;
    lines.push(`  --${spec.name} ${spec.kind === 'bool' ? '' : `<${spec.kind}>`}`.trimEnd());
    lines.push(`      ${spec.help}${fallback}${note}`);
  }
  return `${lines.join('\n')}\n`;
}
