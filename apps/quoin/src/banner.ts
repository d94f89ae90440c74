import { resolve } from 'node:path';

/** Where a node that was started by hand listens, and how to talk to it. */
export function banner(clientUrls: readonly string[], dataDir: string): string {
  const endpoints = clientUrls.map((url) =>
    url.replace(/^http:\/\//, '').replace(/^0\.0\.0\.0:/, '127.0.0.1:'),
  );
  const flag = `--endpoints=${endpoints.join(',')}`;
  return [
    '',
    `  Quoin serves etcd's API on ${reachable.join(', ')}`,
    `  data directory             ${resolve(dataDir)}`,
    '',
    `    ETCDCTL_API=3 etcdctl ${flag} put greeting hello`,
    `    npm run quoinctl -- ${flag} get greeting`,
    `    curl ${reachable[0] ?? ''}/health`,
    '',
    '  Ctrl-C stops it.',
    '',
    '',
  ].join('\n');
}
