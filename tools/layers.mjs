/**
 * The layer table: which project may import which. Everything points down; the tidy test holds package.json
 * dependencies, tsconfig references and import statements to it.
 *
 * `world`: pure projects know neither Node nor time nor chance nor promises; node projects may.
 */
export const layers = {
  base: { world: 'pure', may: [] },
  contracts: { world: 'pure', may: ['base'] },
  rpc: { world: 'pure', may: ['base'] },
  raft: { world: 'pure', may: ['base'] },
  wal: { world: 'pure', may: ['base', 'raft'] },
  mvcc: { world: 'pure', may: ['base', 'contracts'] },
  member: { world: 'pure', may: ['base', 'contracts', 'raft', 'wal', 'mvcc'] },
  gateway: { world: 'pure', may: ['base', 'contracts', 'rpc'] },
  client: { world: 'node', may: ['base', 'contracts'] },
  platform: {
    world: 'node',
    may: ['base', 'contracts', 'rpc', 'raft', 'wal', 'mvcc', 'member', 'gateway'],
  },
  sim: { world: 'pure', may: ['base', 'contracts', 'rpc', 'raft', 'wal', 'mvcc', 'member', 'gateway'] },
};

/** Apps compose; nothing imports an app. */
export const appsMay = Object.keys(layers).filter((name) => name !== 'sim');

/** npm packages that a pure project may depend on; node projects choose theirs with care. */
export const packagesMay = {
  contracts: ['@bufbuild/protobuf'],
  member: ['@bufbuild/protobuf'],
  gateway: ['@bufbuild/protobuf'],
};
