import { setTimeout as pause } from 'node:timers/promises'

import { guard, openServerDirectories, type Guarded, type Program } from './guardian.ts'
import {
  clearState,
  ensureAdminToken,
  ensureEncryptionKeys,
  homeAdvice,
  openHome,
  writeState,
  type RunningState,
} from './home.ts'
import { endLeftovers } from './leftovers.ts'
import { lockHome } from './lock.ts'
import { lastWordsOfLog, sizeOf, watchLog } from './log-watch.ts'
import { startPostgres, type StartedPostgres } from './postgres.ts'
import type { Environment } from './redis-binary.ts'
import { startRedis, type StartedRedis } from './redis.ts'
import { demoProgram, loopback, serviceNames, servicePrograms, type LocalRun } from './services.ts'
import { explainFileError, SetupError } from './setup-error.ts'
import { supervise, type Death, type Supervised } from './supervise.ts'
import { chooseOpsPorts, choosePublicPorts, type PublicPorts } from './up-ports.ts'

/**
 * The local run, in the order of its start:
 *
 *   home locked → Postgres, Redis, demo receiver → preparations (migrations, tenterhook.yaml) → services → ready
 *
 * - U1: it stops in the reverse order: services drain while the demo receiver, Redis and Postgres still answer.
 * - U2: when it can't start, whatever it had started is stopped before the reason is told.
 * - U3: when it is killed, the guardians keep the same order: services hold the leashes of Postgres and Redis.
 */
export type UpOptions = {
  /** The repository. */
  readonly root: string
  readonly home: string
  readonly env: Environment
  /** 0 lets the system choose. */
  readonly ports: PublicPorts
  /** The first of four; 0 lets the system choose. */
  readonly opsPortBase: number
  readonly demo: boolean
  /** Run one after the other once Postgres and Redis answer, before the services start. */
  readonly preparations: readonly Preparation[]
  readonly say: (line: string) => void
  /** Aborted by whoever wants it to stop. */
  readonly signal: AbortSignal
  readonly monotonicMs: () => number
  /** The services to run; tests give stand-ins. */
  readonly programs?: (run: LocalRun) => readonly Program[]
}

export type Preparation = {
  /** For people: `migrations`, `tenterhook.yaml`. */
  readonly name: string
  readonly run: (run: LocalRun) => Promise<unknown>
}

type Server = StartedPostgres | StartedRedis

const serverNames: ReadonlySet<string> = new Set(['postgres', 'redis'])
const readyTimeoutMs = 60_000
const readyPollMs = 50
const readyRequestTimeoutMs = 2_000
/** A program that dies this often before everything was ready once will not start by trying again. */
const startDeathsMax = 3

/** Runs everything until the signal, then stops it. Rejects with a SetupError when it can't start. */
export async function up(options: UpOptions): Promise<void> {
  try {
    await runUntilStopped(options)
  } catch (error) {
    // Told to stop while it started: what fails from then on is no failure.
    if (!options.signal.aborted) throw explainFileError(error, pathOf(error) ?? options.home, homeAdvice)
  }
}

/** The file that a system error is about. */
function pathOf(error: unknown): string | undefined {
  return error instanceof Error && 'path' in error && typeof error.path === 'string' ? error.path : undefined
}

async function runUntilStopped(options: UpOptions): Promise<void> {
  const { root, home, env, say, signal, demo } = options
  await using stops = new AsyncDisposableStack()
  const stopped = abortOf(signal)
  signal.addEventListener('abort', () => say('stopping; Ctrl-C again stops at once'), { once: true })

  await openHome(home)
  const lock = await lockHome(home)
  stops.defer(lock.release)
  await openServerDirectories(home)
  await endLeftovers({ home, say, signal })
  const ports = await choosePublicPorts(options.ports, { demo })
  const opsPorts = await chooseOpsPorts(options.opsPortBase, Object.values(ports))
  const adminToken = await ensureAdminToken(home, env['TENTERHOOK_ADMIN_TOKEN'] || undefined)
  const encryptionKeys = await ensureEncryptionKeys(home, env['TENTERHOOK_ENCRYPTION_KEYS'] || undefined)
  if (adminToken.made) say(`admin token, said this once and kept in ${home}/admin-token: ${adminToken.token}`)

  const deaths = watchDeaths(options)
  const serversAway = new Set<string>()
  const unlessStopped = <T>(step: Promise<T>) => Promise.race([step, stopped, deaths.tooMany])
  const keep = (program: Program, start: () => Guarded, first?: Guarded) => {
    const { name, logPath: path } = program
    const inOutage = () => serversAway.size > 0
    stops.defer(watchLog({ name, path, say, inOutage }).stop)
    const startOne = () => {
      deaths.bornAt(name)
      return start()
    }
    const onDeath = (death: Death) => {
      if (serverNames.has(name)) serversAway.add(name)
      deaths.on(death)
    }
    return supervise({ name, start: startOne, ...(first && { first }), onDeath, monotonicMs: options.monotonicMs })
  }

  const restartServer = ({ program, ready }: Server) => {
    const server = guard(program)
    let ended = false
    void server.exited.then(() => (ended = true))
    const back = () => {
      serversAway.delete(program.name)
      if (!signal.aborted) say(`${program.name} is back`)
    }
    // One that never becomes ready may not silence the services for good; one that died again is started again.
    ready(server, signal).then(back, () => ended || serversAway.delete(program.name))
    return server
  }

  const starting = startServers(options)
  const servers: Supervised[] = []
  stops.defer(async () => {
    await Promise.all(servers.map((server) => server.stop()))
    await starting.stop()
  })
  if (demo) {
    const program = demoProgram({ root, home, env, ports })
    stops.defer(keep(program, () => guard(program)).stop)
  }
  const { postgres, redis } = await unlessStopped(starting.started)
  for (const server of [postgres, redis]) {
    if (server) servers.push(keep(server.program, () => restartServer(server), server.server))
  }

  const run: LocalRun = {
    root,
    home,
    env,
    databaseUrl: postgres?.url ?? env['DATABASE_URL'] ?? '',
    redisUrl: redis?.url ?? env['REDIS_URL'] ?? '',
    encryptionKeys,
    ports,
    opsPorts,
  }
  for (const preparation of options.preparations) await unlessStopped(prepare(preparation, run))

  const holds = () => servers.map((server) => server.current().leash)
  const services: Supervised[] = []
  stops.defer(async () => {
    await Promise.all(services.map((service) => service.stop()))
  })
  for (const program of (options.programs ?? servicePrograms)(run)) {
    services.push(keep(program, () => guard(program, holds())))
  }

  const state = describeRun(run, demo)
  const givenUp = new AbortController()
  stops.defer(() => givenUp.abort())
  await unlessStopped(waitReady(state, home, givenUp.signal))
  deaths.started()
  stops.defer(() => clearState(home))
  await writeState(home, state)
  announce(options, state, { postgres, redis })
  await stopped.catch(() => {})
}

/** Rejects when the signal is aborted. */
function abortOf(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>()
  promise.catch(() => {}) // it may be aborted while nobody waits
  if (signal.aborted) reject(signal.reason)
  else signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  return promise
}

/** Both at once; those that DATABASE_URL and REDIS_URL replace are not started. */
function startServers({ home, env, say, signal }: UpOptions) {
  const postgres = env['DATABASE_URL'] ? Promise.resolve(undefined) : startPostgres({ home, signal })
  const redis = env['REDIS_URL'] ? Promise.resolve(undefined) : startRedis({ home, env, say, signal })
  return {
    started: Promise.all([postgres, redis]).then(([postgres, redis]) => ({ postgres, redis })),
    /** Also those that are still starting: they are waited for. */
    stop: async () => {
      const settled = await Promise.allSettled<Server | undefined>([postgres, redis])
      for (const server of settled) if (server.status === 'fulfilled') await server.value?.stop()
    },
  }
}

/** Says each death in one line; until everything was ready once, too many of one program reject `tooMany`. */
function watchDeaths({ home, say, signal }: UpOptions) {
  const { promise: tooMany, reject } = Promise.withResolvers<never>()
  tooMany.catch(() => {}) // it may happen while nobody waits
  let starting = true
  const logSizesAtBirth = new Map<string, number>()
  const tell = async ({ name, how, deathsInARow, pauseMs }: Death) => {
    const path = logPath(home, name)
    if (starting && deathsInARow >= startDeathsMax) {
      const said = (await lastWordsOfLog(path, logSizesAtBirth.get(name))) ?? how
      reject(new SetupError('service_failed', `${name} does not start: ${said} (more in ${path})`))
    } else if (!signal.aborted) {
      say(`${name} ${how}; starting it again in ${pauseMs / 1_000} s (its log: ${path})`)
    }
  }
  return {
    tooMany,
    /** Before each start: what stands in the log by then is an earlier life's. */
    bornAt: (name: string) => logSizesAtBirth.set(name, sizeOf(logPath(home, name))),
    on: (death: Death) => void tell(death).catch(reject),
    started: () => {
      starting = false
    },
  }
}

async function prepare({ name, run: prepareRun }: Preparation, run: LocalRun): Promise<void> {
  try {
    await prepareRun(run)
  } catch (error) {
    if (error instanceof SetupError) throw error
    throw new SetupError('preparation_failed', `${name}: ${describeError(error)}`, { cause: error })
  }
}

/** A refused connection to a name with several addresses has no message of its own. */
function describeError(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return describeError(error.errors[0])
  return error instanceof Error ? error.message || error.name : String(error)
}

function describeRun({ databaseUrl, redisUrl, ports, opsPorts }: LocalRun, demo: boolean): RunningState {
  const at = (port: number) => `http://127.0.0.1:${port}`
  return {
    pid: process.pid,
    databaseUrl,
    redisUrl,
    ingestUrl: at(ports.ingest),
    consoleUrl: at(ports.console),
    opsUrls: Object.fromEntries(serviceNames.map((name) => [name, at(opsPorts[name])])),
    ...(demo && { demoUrl: at(ports.demo) }),
  }
}

async function waitReady({ opsUrls }: RunningState, home: string, signal: AbortSignal): Promise<void> {
  const waiting = Object.entries(opsUrls).map(async ([name, url]) => {
    const timeout = AbortSignal.timeout(readyTimeoutMs)
    while (!(await isReady(`${url}/readyz`))) {
      signal.throwIfAborted()
      if (timeout.aborted) {
        const path = logPath(home, name)
        throw new SetupError('service_failed', `${name} is not ready after ${readyTimeoutMs / 1_000} s: see ${path}`)
      }
      await pause(readyPollMs)
    }
  })
  await Promise.all(waiting)
}

async function isReady(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(readyRequestTimeoutMs) })
    await response.body?.cancel()
    return response.status === 200
  } catch {
    return false // not listening yet
  }
}

type Servers = { postgres: StartedPostgres | undefined; redis: StartedRedis | undefined }

function announce({ home, env, opsPortBase, say }: UpOptions, state: RunningState, { postgres, redis }: Servers): void {
  const { ingestUrl, consoleUrl, demoUrl, opsUrls } = state
  say(
    `${postgres ? `Postgres ${postgres.version}` : 'Postgres at DATABASE_URL'}, ${redis?.version ?? 'Redis at REDIS_URL'}; data and logs are in ${home}`,
  )
  if (!env['TENTERHOOK_ALLOW_CIDRS']) {
    say(
      `deliveries to this machine (${loopback}) are allowed, because this is a local run; TENTERHOOK_ALLOW_CIDRS changes that`,
    )
  }
  const moved = Object.entries(opsUrls).some(([, url], index) => !url.endsWith(`:${opsPortBase + index}`))
  if (moved)
    say(
      `ops: ${Object.entries(opsUrls)
        .map(([name, url]) => `${name} ${url}`)
        .join('  ')}`,
    )
  say(
    ['ready', `ingest ${ingestUrl}`, `console ${consoleUrl}`, ...(demoUrl ? [`demo ${demoUrl}/received`] : [])].join(
      '  ',
    ),
  )
}

function logPath(home: string, name: string): string {
  return `${home}/logs/${name}.log`
}
