import { defineConfig } from 'vitest/config';

// One configuration for every project; `nx test NAME` narrows it with --dir.
export default defineConfig({
  test: {
    include: ['**/*.test.ts'],
    exclude: ['**/node_modules/**', '**/dist/**', '.cache/**'],
    pool: 'forks',
    maxWorkers: 2,
    // No test waits for these: they end what hangs, on a machine however busy.
    testTimeout: 60_000,
    hookTimeout: 90_000,
  },
});
