import { resolve } from 'node:path';

/** Where a node that was started by hand listens, and how to talk to it. */
export function banner(clientUrls: readonly string[], dataDir: string): string {
  // What was bound for localhost, and what can be dialled where everything was bound.
  const urls = clientUrls.map((url) => url.replace(/\/\/(0\.0\.0\.0|localhost):/, '//127.0.0.1:'));
  const flag = `--endpoints=${urls.map((url) => url.replace(/^http:\/\//, '')).join(',')}`;
  return [
    '',
    `  Quoin serves etcd's API on ${urls.join(', ')}`,
    `  data directory             ${resolve(dataDir)}`,
    '',
    `    ETCDCTL_API=3 etcdctl ${flag} put greeting hello`,
    `    npm run quoinctl -- ${flag} get greeting`,
    `    curl ${urls[0] ?? ''}/health`,
    '',
    '  Ctrl-C stops it.',
    '',
    '',
  ].join('\n');
}
