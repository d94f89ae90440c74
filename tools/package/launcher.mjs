/** The command that a package installs: finds a Node and becomes it. */

/**
 * `lib` is the bundle's directory as seen from the command's own. The package's own Node comes first, then
 * $QUOIN_NODE, then the path.
 */
export function launcher(lib, entry) {
  return `#!/bin/sh
# ${entry} of Quoin, on Node 24 or later: the one of this package if it has one, else $QUOIN_NODE, else \`node\` of the path.
here=$(dirname "$(readlink -f "$0")")
if [ -x "$here/../lib/quoin/node" ]; then node="$here/../lib/quoin/node"; else node="\${QUOIN_NODE:-node}"; fi
if ! command -v "$node" >/dev/null; then
  echo "$(basename "$0"): there is no $node here: install Node 24 or later, or name it in QUOIN_NODE" >&2
  exit 1
fi
exec "$node" "$here/${lib}/${entry}" "$@"
`;
}
