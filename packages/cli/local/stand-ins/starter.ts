import { join } from 'node:path'

import { nodeProgram, serviceNames } from '../services.ts'
import { stopSignal } from '../stop-signal.ts'
import { up } from '../up.ts'

/** Runs `up` with stand-ins for the services, as main.ts does with the real ones, in a process that a test may kill. */
const [home = '', journal = '', ...services] = process.argv.slice(2)
const monotonicMs = () => performance.now()

try {
  await up({
    root: join(import.meta.dirname, '../../../..'),
    home,
    env: process.env,
    ports: {
      ingest: Number(process.env['TENTERHOOK_INGEST_PORT'] ?? 0),
      console: 0,
      demo: 0,
    },
    opsPortBase: 0,
    demo: true,
    preparations: [],
    say: (line) => process.stdout.write(`${line}\n`),
    signal: stopSignal({ monotonicMs }),
    monotonicMs,
    programs: (run) =>
      serviceNames.map((name) =>
        nodeProgram({
          name,
          script: services[0] ?? join(import.meta.dirname, 'service.ts'),
          args: [name, journal],
          home,
          graceMs: 5_000,
          env: {
            PATH: process.env['PATH'] ?? '',
            DATABASE_URL: run.databaseUrl,
            REDIS_URL: run.redisUrl,
            DRAIN_MS: process.env['DRAIN_MS'] ?? '300',
            TENTERHOOK_OPS_PORT: String(run.opsPorts[name]),
          },
        }),
      ),
  })
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
