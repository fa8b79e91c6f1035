import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['packages/**/*.test.ts', 'services/**/*.test.ts', 'test/**/*.test.ts'],
    exclude: ['**/node_modules/**'],
    globalSetup: ['test/support/servers.ts'],
    reporters: ['default', './test/support/tally.ts'],
    // Processes, not threads: tests send signals, change directories and count open handles.
    pool: 'forks',
    // Two on any machine: end-to-end tests spend half their time waiting. Four at most: they share one Postgres, and its
    // hundred connections.
    maxWorkers: Math.min(4, Math.max(2, availableParallelism() - 1)),
    testTimeout: 20_000,
    hookTimeout: 60_000,
    teardownTimeout: 30_000,
  },
})
