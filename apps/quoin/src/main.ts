/** Every role in one process, with etcd's own flags. */
import { runRole, startQuoinNode } from '@quoin/platform';
import { banner } from './banner.ts';

await runRole('quoin', async (config, log) => {
  const node = await startQuoinNode(config, log);
  // Under npm start a person is watching; under a supervisor the log alone speaks.
  if (process.env['QUOIN_BOOTSTRAP'] === 'start') {
    void node.ready.then(() => process.stdout.write(banner(node.clientUrls, config.dataDir)));
  }
  return node;
});
