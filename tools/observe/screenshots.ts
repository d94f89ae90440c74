#!/usr/bin/env node
/**
 * Makes the pictures of docs/operating/observability.md: a cluster under some load, its page in headless Chromium, light and dark.
 *
 *     node tools/observe/screenshots.ts [directory]
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from '@quoin/client';
import { startCluster } from '../../tests/support/cluster.ts';
import { Browser, findChromium } from './browser.ts';
import { rolesOf } from './roles.ts';
import { Observer } from './server.ts';

const target = process.argv[2] ?? join(import.meta.dirname, '..', '..', 'docs', 'operating', 'images');
/** Before the pictures are taken; it goes on until the last one is. */
const loadSeconds = 63;
const clients = 12;
const pauseMs = 5;

async function load(endpoints: readonly string[], isWanted: () => boolean): Promise<void> {
  const client = new Client({ endpoints: [...endpoints] });
  const one = async (id: number): Promise<void> => {
    for (let i = 0; isWanted(); i++) {
      const key = `app/${id}/${i % 100}`;
      if (i % 3 === 0) await client.kv.put(key, 'x'.repeat(200));
      else await client.kv.get(key);
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  };
  const watcher = client.watch.watch('app/', { prefix: true });
  (async () => {
    for await (const _ of watcher);
  })().catch(() => {});
  try {
    await Promise.all(Array.from({ length: clients }, (_, id) => one(id)));
  } finally {
    watcher.cancel();
    client.close();
  }
}

const chromium = findChromium();
if (chromium === undefined) {
  process.stderr.write('screenshots: there is no chromium here (Debian: apt-get install chromium)\n');
  process.exit(1);
}
mkdirSync(target, { recursive: true });
const observer = new Observer();
await observer.listen(0);
const tracing = observer.tracingFlags(20_000);
const cluster = await startCluster({
  members: 3,
  gateways: 2,
  backup: true,
  memberArgs: tracing,
  gatewayArgs: tracing,
  backupArgs: tracing,
});
observer.watch(rolesOf(cluster));
try {
  let isWanted = true;
  const loading = load(cluster.endpoints, () => isWanted);
  await new Promise((resolve) => setTimeout(resolve, loadSeconds * 1_000));
  for (const scheme of ['light', 'dark'] as const) {
    const browser = await Browser.start(chromium);
    try {
      await browser.open(observer.url, { width: 1440, height: 1600, scheme });
      // A put tells most; the newest trace may be a read.
      const put = `[...document.querySelectorAll('#list tbody tr')].find((row) => /Put/.test(row.textContent))`;
      await browser.until(put);
      await browser.evaluate(`${put}.click()`);
      await browser.until(`document.querySelectorAll('#rows .span').length > 20`);
      await browser.screenshot(join(target, `observe-${scheme}.png`));
      await browser.screenshot(join(target, `trace-${scheme}.png`), '#waterfall');
    } finally {
      await browser.close();
    }
  }
  isWanted = false;
  await loading;
} finally {
  await cluster.stop();
  observer.stop();
}
process.exit(0);
