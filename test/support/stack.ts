/**
 * The product as it runs, for tests: real services as real processes on a database, a Redis, ports and a directory of
 * their own, whose clock the test can shift. Everything hangs on leashes: it ends when the test's process does.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { prepareSchema } from '@tenterhook/cli/commands/migrate'
import { applyConfig } from '@tenterhook/cli/config/apply'
import type { Applied } from '@tenterhook/cli/config/apply'
import { loadConfigFile, problemLines } from '@tenterhook/cli/config/file'
import type { DesiredConfig } from '@tenterhook/cli/config/file'
import { openServerDirectories } from '@tenterhook/cli/local/guardian'
import type { ConnectionInput } from '@tenterhook/schemas/connection'
import type { DestinationInput } from '@tenterhook/schemas/destination'
import type { SourceInput } from '@tenterhook/schemas/source'
import type { Verification } from '@tenterhook/schemas/verification'
import { openStore } from '@tenterhook/store/connect'
import type { Store } from '@tenterhook/store/connect'
import type { EncryptionKeys } from '@tenterhook/store/secrets'
import { afterAll, afterEach, beforeAll } from 'vitest'
import { keepablePort } from './ports.ts'
import { root, serviceProcess } from './service-process.ts'
import type { ServiceProcess } from './service-process.ts'
import { neverRedis, ownPostgres, ownRedis, sharedPostgres } from './stoppable-servers.ts'
import type { StoppablePostgres, StoppableRedis } from './stoppable-servers.ts'

export type ServiceName = 'ingest' | 'router' | 'dispatcher' | 'console'

/** Written as in tenterhook.yaml, or such a file itself with the environment it reads. */
export type StackConfig =
  | {
      sources: Record<string, Omit<SourceInput, 'name'>>
      destinations?: Record<string, Omit<DestinationInput, 'name'>>
      connections?: Record<string, Omit<ConnectionInput, 'name'>>
    }
  | { file: string; environment: Readonly<Record<string, string>> }

export type StackOptions = {
  config: StackConfig
  /** A name that stands twice is started twice: `router` and `router2`. Default: all but the console. */
  services?: readonly ServiceName[]
  /** On top of what every service gets. */
  env?: Readonly<Record<string, string>>
  /** `own`: a Postgres that the test may stop, which takes some seconds to make; or one that the test makes in this directory. */
  postgres?: 'shared' | 'own' | ((home: string, resources: AsyncDisposableStack) => Promise<StoppablePostgres>)
  /** `never`: the services are told of a Redis that isn't there. */
  redis?: 'running' | 'never'
  /** Where the services find Postgres, made from where it really is: a proxy between them. */
  databaseUrl?: (url: string) => string | Promise<string>
}

export type Stack = {
  /** `http://127.0.0.1:12345/in`, of the first ingest. */
  readonly ingestUrl: string
  /** The API's `http://127.0.0.1:12345/v1`. */
  readonly apiUrl: string
  readonly adminToken: string
  /** The test's own connections to the stack's database. */
  readonly store: Store
  readonly keys: EncryptionKeys
  readonly databaseUrl: string
  readonly postgres: StoppablePostgres
  readonly redis: StoppableRedis
  service(name: string): ServiceProcess
  /** How a source of the configuration that was applied last is signed for. */
  verificationOf(source: string): Verification
  /** Brings the configuration to this, as `tenterhook apply` does; what is refused is thrown. */
  apply(config: StackConfig, options?: { prune?: boolean }): Promise<Applied>
  /** Moves the protocol's clock forward; every statement from now on sees it. */
  shiftClock(ms: number): Promise<void>
  /** What the protocol's clock shows now, in Unix milliseconds. */
  protocolMs(): number
  /** What every process of it said last. */
  logs(): Promise<string>
  stop(): Promise<void>
}

const logLines = 60
const logCharsMax = 24_000

/** A stack that the tests of a file, or of a `describe`, share: started before the first, its logs shown when one fails. */
export function sharedStack(options: () => StackOptions | Promise<StackOptions>): () => Stack {
  let stack: Stack | undefined
  const current = () => {
    if (stack === undefined) throw new Error('the stack was not started')
    return stack
  }
  beforeAll(async () => {
    stack = await startStack(await options())
  })
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail' && stack !== undefined) process.stderr.write(await stack.logs())
  })
  afterAll(async () => {
    await stack?.stop()
  })
  return current
}

export async function startStack(options: StackOptions): Promise<Stack> {
  await using resources = new AsyncDisposableStack()
  // The name by which test/support/servers.ts knows whose it is when this process is gone.
  const home = await mkdtemp(join(tmpdir(), `tenterhook-test-${process.pid}-`))
  resources.defer(() => rm(home, { recursive: true, force: true, maxRetries: 3 }))
  await openServerDirectories(home)

  const [postgres, redis] = await Promise.all([
    makePostgres(options.postgres ?? 'shared', home, resources),
    options.redis === 'never' ? neverRedis() : ownRedis(home, resources),
  ])
  await prepareSchema(postgres.url, Date.now())
  const store = openStore({
    connectionString: postgres.url,
    applicationName: 'test',
    connectionsMax: { durable: 2, fast: 1, guarded: 1 },
  })
  resources.defer(() => store.close())

  const key = randomBytes(32)
  const keys = [{ id: 'k1', key }]
  let desired: DesiredConfig = { sources: [], destinations: [], connections: [] }
  const apply: Stack['apply'] = async (config, { prune = false } = {}) => {
    desired = await readConfig(home, config)
    const applied = await applyConfig(store, keys, desired, { prune, nowMs: Date.now() })
    if (applied.kind === 'refused')
      throw new Error(`the configuration was refused: ${JSON.stringify(applied.refusals)}`)
    return applied
  }
  await apply(options.config)

  const adminToken = randomUUID()
  const services = new Map<string, ServiceProcess>()
  const databaseUrl = (await options.databaseUrl?.(postgres.url)) ?? postgres.url
  const ingestPort = await keepablePort()
  for (const service of options.services ?? (['ingest', 'router', 'dispatcher'] as const)) {
    const copies = [...services.keys()].filter((name) => name.startsWith(service)).length
    const name = copies === 0 ? service : `${service}${copies + 1}`
    const port = name === 'ingest' ? ingestPort : await keepablePort()
    const env = {
      PATH: process.env['PATH'] ?? '',
      // As `npm start` does: a service then starts in half the time, and tests start hundreds.
      NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'] ?? join(root, 'node_modules/.cache/tenterhook'),
      DATABASE_URL: databaseUrl,
      REDIS_URL: redis.url,
      TENTERHOOK_HOME: home,
      TENTERHOOK_ENCRYPTION_KEYS: `k1:${key.toString('base64')}`,
      TENTERHOOK_PUBLIC_URL: `http://127.0.0.1:${ingestPort}`,
      ...(service === 'console' && { TENTERHOOK_ADMIN_TOKEN: adminToken }),
      ...(service === 'dispatcher' && { TENTERHOOK_ALLOW_CIDRS: '127.0.0.0/8' }),
      ...options.env,
    }
    services.set(name, serviceProcess({ service, name, home, port, opsPort: await keepablePort(), env }))
  }
  resources.defer(async () => {
    await Promise.all([...services.values()].map((service) => service.kill('SIGTERM').catch(() => {})))
  })
  const logs = () => allLogs(home)
  try {
    await Promise.all([...services.values()].map((service) => service.start()))
  } catch (error) {
    process.stderr.write(await logs())
    throw error
  }

  let shiftedMs = 0
  const kept = resources.move()
  let stopped: Promise<void> | undefined
  const service = (name: string) => {
    const found = services.get(name)
    if (found === undefined) throw new Error(`the stack has no ${name}`)
    return found
  }
  return {
    ingestUrl: `http://127.0.0.1:${ingestPort}/in`,
    get apiUrl() {
      return `${service('console').url}/v1`
    },
    adminToken,
    store,
    keys,
    databaseUrl: postgres.url,
    postgres,
    redis,
    service,
    verificationOf(name) {
      const source = desired.sources.find(({ spec }) => spec.name === name)
      if (source === undefined) throw new Error(`the configuration has no source ${name}`)
      return source.spec.verification
    },
    apply,
    async shiftClock(ms) {
      shiftedMs += ms
      await store.durable.query(
        `CREATE OR REPLACE FUNCTION clock() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT now() + interval ''${shiftedMs} milliseconds'''`,
      )
    },
    protocolMs: () => Date.now() + shiftedMs,
    logs,
    stop: () => (stopped ??= kept.disposeAsync()),
  }
}

function makePostgres(
  kind: NonNullable<StackOptions['postgres']>,
  home: string,
  resources: AsyncDisposableStack,
): Promise<StoppablePostgres> {
  if (kind === 'shared') return sharedPostgres(resources)
  return kind === 'own' ? ownPostgres(home, resources) : kind(home, resources)
}

async function readConfig(home: string, config: StackConfig): Promise<DesiredConfig> {
  const given = 'file' in config
  const path = given ? config.file : join(home, 'tenterhook.yaml')
  if (!given) await writeFile(path, JSON.stringify(config))
  const loaded = await loadConfigFile(path, given ? config.environment : {})
  if (loaded.kind === 'invalid') throw new Error(problemLines('the test’s configuration', loaded.problems).join('\n'))
  return loaded.desired
}

async function allLogs(home: string): Promise<string> {
  const directory = join(home, 'logs')
  const parts: string[] = []
  for (const name of (await readdir(directory)).toSorted()) {
    const text = (await readFile(join(directory, name), 'utf8')).trimEnd()
    parts.push(`--- ${name}\n${text.split('\n').slice(-logLines).join('\n').slice(-logCharsMax)}\n`)
  }
  return parts.join('')
}
