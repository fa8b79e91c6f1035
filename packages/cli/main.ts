import { dirname, join } from 'node:path'

import { readEnvironment } from '@tenterhook/lifecycle/environment'
import { port } from '@tenterhook/lifecycle/variables'
import { migrate } from '@tenterhook/store/migrate'
import { Command, InvalidArgumentError } from 'commander'

import { homePath } from './local/home.ts'
import { SetupError } from './local/setup-error.ts'
import { stopSignal } from './local/stop-signal.ts'
import { up } from './local/up.ts'

const root = join(dirname(import.meta.filename), '../..')
const monotonicMs = () => performance.now()
const say = (line: string) => void process.stdout.write(`${line}\n`)

/** Where `up` listens, unless a flag says otherwise. */
const upVariables = {
  TENTERHOOK_INGEST_PORT: port.default(8080),
  TENTERHOOK_CONSOLE_PORT: port.default(8081),
  TENTERHOOK_DEMO_PORT: port.default(8090),
  /** The first of four. */
  TENTERHOOK_OPS_PORT_BASE: port.default(9101),
}

type UpFlags = { ingestPort?: number; consolePort?: number; demoPort?: number; demo: boolean }

const program = new Command('tenterhook').description('Self-hosted webhook gateway.')

program
  .command('up')
  .description('run everything on this machine: Postgres, Redis, the four services and a demo receiver')
  .option('--ingest-port <port>', 'where senders post (TENTERHOOK_INGEST_PORT, 8080)', parsePort)
  .option('--console-port <port>', 'the management API and the dashboard (TENTERHOOK_CONSOLE_PORT, 8081)', parsePort)
  .option('--demo-port <port>', "the demo's destinations (TENTERHOOK_DEMO_PORT, 8090)", parsePort)
  .option('--no-demo', 'leave the demo receiver out')
  .action(async (flags: UpFlags) => {
    const wished = readEnvironment(upVariables)
    await up({
      root,
      home: homePath({ env: process.env, root }),
      env: process.env,
      ports: {
        ingest: flags.ingestPort ?? wished.TENTERHOOK_INGEST_PORT,
        console: flags.consolePort ?? wished.TENTERHOOK_CONSOLE_PORT,
        demo: flags.demoPort ?? wished.TENTERHOOK_DEMO_PORT,
      },
      opsPortBase: wished.TENTERHOOK_OPS_PORT_BASE,
      demo: flags.demo,
      preparations: [{ name: 'migrations', run: ({ databaseUrl }) => migrate({ connectionString: databaseUrl }) }],
      say,
      signal: stopSignal({ monotonicMs }),
      monotonicMs,
    })
  })

function parsePort(text: string): number {
  const parsed = port.safeParse(text)
  if (!parsed.success) throw new InvalidArgumentError(parsed.error.issues.map(({ message }) => message).join(', '))
  return parsed.data
}

// Whoever read our output may leave before us (`npm start | head`); the run goes on.
process.stdout.on('error', () => {})

try {
  await program.parseAsync()
} catch (error) {
  process.stderr.write(`tenterhook: ${error instanceof SetupError ? error.message : describeFault(error)}\n`)
  process.exitCode = 1
}

/** A fault of ours is told with its stack: nobody can mend it without. */
function describeFault(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}
