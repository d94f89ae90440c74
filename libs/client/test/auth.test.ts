import { Code, etcdErrors } from '@quoin/contracts';
import { afterAll, describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from '../../../tests/support/test-server.ts';
import { Client, EtcdError } from '../src/index.ts';

const external = (process.env['QUOIN_TEST_ENDPOINTS'] ?? '') !== '';
// It switches authentication on: only on a server of its own.
const server: TestServer | undefined = external ? undefined : await startTestServer();
afterAll(() => server?.stop());

async function served(client: Client): Promise<boolean> {
  const problem = await client.auth.userList().catch((error: EtcdError) => error);
  const missing = problem instanceof EtcdError && problem.code === Code.unimplemented;
  if (missing) console.log(`skipped: ${problem.message}`);
  return !missing;
}

describe.skipIf(server === undefined)('users', () => {
  test('a user logs in by itself, and again when its token is gone; others are refused', async () => {
    const { endpoints } = server!;
    const nobody = new Client({ endpoints });
    const early = new Client({ endpoints, user: 'u', password: 'pw' });
    const root = new Client({ endpoints, user: 'root', password: 'r' });
    const wrong = new Client({ endpoints, user: 'u', password: 'no' });
    try {
      if (!(await served(nobody))) return;
      await nobody.kv.put('a/1', 'v');
      // Authentication is off: a user is no obstacle.
      expect((await early.kv.get('a/1')).count).toBe(1n);
      await nobody.auth.userAdd('root', 'r');
      await nobody.auth.roleAdd('root');
      await nobody.auth.userGrantRole('root', 'root');
      await nobody.auth.userAdd('u', 'pw');
      await nobody.auth.roleAdd('reader');
      await nobody.auth.roleGrantPermission('reader', 'read', 'a/', { prefix: true });
      await nobody.auth.userGrantRole('u', 'reader');
      await nobody.auth.enable();
      expect((await early.kv.get('a/1')).count).toBe(1n);
      await expect(early.kv.put('a/1', 'w')).rejects.toThrow(etcdErrors.permissionDenied.message);
      await expect(wrong.kv.get('a/1')).rejects.toThrow(etcdErrors.authFailed.message);
      await expect(nobody.kv.get('a/1')).rejects.toThrow(etcdErrors.userEmpty.message);
      const watcher = early.watch.watch('a/', { prefix: true });
      await watcher.created;
      await root.kv.put('a/2', 'x');
      expect((await watcher.next()).value?.events).toHaveLength(1);
      watcher.cancel();
      // A change of users makes the server forget the token.
      await root.auth.userChangePassword('u', 'pw');
      expect((await early.kv.get('a/2')).count).toBe(1n);
      expect((await root.auth.roleGet('reader')).perm).toHaveLength(1);
      await root.auth.disable();
      expect((await nobody.kv.get('a/2')).count).toBe(1n);
    } finally {
      for (const client of [nobody, early, root, wrong]) client.close();
    }
  });
});
