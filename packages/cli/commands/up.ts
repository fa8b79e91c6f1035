import { access } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { databaseUrl, encryptionKeys, headerToken, port, redisUrl, wholeNumber } from '@tenterhook/lifecycle/variables'
import { openStore } from '@tenterhook/store/connect'
import { checkEncryptionKeys } from '@tenterhook/store/secrets'
import { Command, InvalidArgumentError } from 'commander'
import { applyConfig } from '../config/apply.ts'
import { summaryText } from '../config/plan.ts'
import type { LocalRun } from '../local/services.ts'
import { systemCode } from '../local/setup-error.ts'
import { up } from '../local/up.ts'
import { configFileName, readConfigFile, refusalLines, shownPath } from './config-file.ts'
import { findEncryptionKeys, readVariable } from './database.ts'
import { migrateDatabase } from './migrate.ts'
import type { Surroundings } from './surroundings.ts'

/** Where `up` listens, unless a flag says otherwise. */
export const upVariables = {
  TENTERHOOK_INGEST_PORT: port.default(8080),
  TENTERHOOK_CONSOLE_PORT: port.default(8081),
  TENTERHOOK_DEMO_PORT: port.default(8090),
  /** The first of four. */
  TENTERHOOK_OPS_PORT_BASE: wholeNumber({ min: 0, max: 65_532 }).default(9101),
}

/** What services are given as it is; a wrong one is told before anything is started or written. */
const passedOnVariables = {
  DATABASE_URL: databaseUrl.optional(),
  REDIS_URL: redisUrl.optional(),
  TENTERHOOK_ADMIN_TOKEN: headerToken.optional(),
  TENTERHOOK_ENCRYPTION_KEYS: encryptionKeys.optional(),
}

type Flags = { ingestPort?: number; consolePort?: number; demoPort?: number; demo: boolean; config?: string }

export function upCommand(surroundings: Surroundings): Command {
  return new Command('up')
    .description('run everything on this machine: Postgres, Redis, the four services and a demo receiver')
    .option('--config <file>', "what to apply before the services start (the repository's tenterhook.yaml)")
    .option('--ingest-port <port>', 'where senders post (TENTERHOOK_INGEST_PORT, 8080)', parsePort)
    .option('--console-port <port>', 'the management API and the dashboard (TENTERHOOK_CONSOLE_PORT, 8081)', parsePort)
    .option('--demo-port <port>', "the demo's destinations (TENTERHOOK_DEMO_PORT, 8090)", parsePort)
    .option('--no-demo', 'leave the demo receiver out')
    .action(async (flags: Flags) => {
      const { root, home, env, cwd, out, nowMs, monotonicMs, stopSignal } = surroundings
      const wished = readVariable({ ...upVariables, ...passedOnVariables }, env)
      const demo = flags.demoPort ?? wished.TENTERHOOK_DEMO_PORT
      const file = await chosenFile(flags.config, { root, cwd })
      // A file that is wrong is told at once, before anything was started for it.
      if (file) await readConfigFile(file, { ...env, TENTERHOOK_DEMO_PORT: String(demo) }, surroundings)
      await up({
        root,
        home,
        env,
        ports: {
          ingest: flags.ingestPort ?? wished.TENTERHOOK_INGEST_PORT,
          console: flags.consolePort ?? wished.TENTERHOOK_CONSOLE_PORT,
          demo,
        },
        opsPortBase: wished.TENTERHOOK_OPS_PORT_BASE,
        demo: flags.demo,
        preparations: [
          { name: 'migrations', run: ({ databaseUrl: url }) => migrateDatabase(url, nowMs()) },
          ...(file ? [{ name: shownPath(file, cwd), run: (run: LocalRun) => applyFile(file, run, surroundings) }] : []),
        ],
        say: out,
        signal: stopSignal(),
        monotonicMs,
      })
    })
}

/** The one that was named, else the repository's; undefined when that was taken away. */
async function chosenFile(
  given: string | undefined,
  { root, cwd }: Pick<Surroundings, 'root' | 'cwd'>,
): Promise<string | undefined> {
  if (given !== undefined) return resolve(cwd, given)
  const path = join(root, configFileName)
  try {
    await access(path)
    return path
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw error
  }
}

async function applyFile(file: string, run: LocalRun, { cwd, out, nowMs, program }: Surroundings): Promise<void> {
  const environment = { ...run.env, TENTERHOOK_DEMO_PORT: String(run.ports.demo) }
  // Its warnings were told when it was read first.
  const desired = await readConfigFile(file, environment, { cwd, note: () => {} })
  const keys = await findEncryptionKeys({ env: { TENTERHOOK_ENCRYPTION_KEYS: run.encryptionKeys }, home: run.home })
  const store = openStore({ connectionString: run.databaseUrl, applicationName: 'tenterhook-up' })
  try {
    await checkEncryptionKeys(store.durable, keys)
    const applied = await applyConfig(store, keys, desired, { prune: false, nowMs: nowMs() })
    const shown = shownPath(file, cwd)
    if (applied.kind !== 'refused') {
      out(`${shown}: ${applied.kind === 'applied' ? summaryText(applied.steps) : 'nothing to change'}`)
      return
    }
    // What is unfinished ends only while the services run: they start with the configuration as it was.
    for (const line of refusalLines(applied.refusals, `run \`${program} apply --prune\``)) out(`${shown}: ${line}`)
    out(`${shown} is not applied; the configuration is as it was`)
  } finally {
    await store.close()
  }
}

function parsePort(text: string): number {
  const parsed = port.safeParse(text)
  if (!parsed.success) throw new InvalidArgumentError(parsed.error.issues.map(({ message }) => message).join(', '))
  return parsed.data
}
