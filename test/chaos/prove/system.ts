/**
 * The product as it runs, six processes over a Postgres and a Redis of its own, with a proxy of ours on each of their
 * lines. Whatever dies is started again at once, as a service manager would. Everything hangs on leashes: it ends when
 * this process does.
 */
import { randomBytes } from 'node:crypto'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { prepareSchema } from '@tenterhook/cli/commands/migrate'
import { applyConfig } from '@tenterhook/cli/config/apply'
import { loadConfigFile, problemLines } from '@tenterhook/cli/config/file'
import { openServerDirectories } from '@tenterhook/cli/local/guardian'
import { openStore } from '@tenterhook/store/connect'
import type { Store } from '@tenterhook/store/connect'
import { until } from '../../support/poll.ts'
import { keepablePort } from '../../support/ports.ts'
import { startFaultProxy } from '../../support/proxy.ts'
import type { FaultProxy } from '../../support/proxy.ts'
import { root, serviceProcess } from '../../support/service-process.ts'
import { ownRedis } from '../../support/stoppable-servers.ts'
import type { StoppableRedis } from '../../support/stoppable-servers.ts'
import { serviceCopies } from './plan.ts'
import type { ServiceCopy } from './plan.ts'
import { startProvePostgres } from './postgres.ts'
import type { ProvePostgres } from './postgres.ts'
import type { configuration } from './topology.ts'

export type Supervised = {
  readonly name: ServiceCopy
  readonly url: string
  /** Undefined between a death and the next start. */
  pid(): number | undefined
  kill(): void
  pause(): void
  resume(): void
  /** From its next start on; undefined: the machine's own clock. */
  setClock(offsetSeconds: number | undefined): void
  isReady(): Promise<boolean>
  readonly lines: { postgres: FaultProxy; redis: FaultProxy }
}

export type System = {
  /** Past every proxy. */
  readonly store: Store
  readonly postgres: ProvePostgres
  readonly redis: StoppableRedis
  readonly services: ReadonlyMap<ServiceCopy, Supervised>
  /** Ends that nobody asked for: `router2 (exit 1)`. */
  readonly deaths: readonly string[]
  /** Undefined: this machine has no libfaketime. */
  readonly faketime: string | undefined
}

const restartPauseMs = 300
const shortLifeMs = 1_000
const readyTimeoutMs = 60_000

export async function startSystem(
  { home, config, faketime }: { home: string; config: ReturnType<typeof configuration>; faketime: string | undefined },
  resources: AsyncDisposableStack,
): Promise<System> {
  await openServerDirectories(home)
  const [postgres, redis] = await Promise.all([startProvePostgres(home, resources), ownRedis(home, resources)])
  await prepareSchema(postgres.url, Date.now())
  const store = openStore({
    connectionString: postgres.url,
    applicationName: 'nemesis',
    connectionsMax: { durable: 2, fast: 1, guarded: 1 },
  })
  resources.defer(() => store.close())
  const key = randomBytes(32)
  await configure(home, store, [{ id: 'k1', key }], config)

  const deaths: string[] = []
  const services = new Map<ServiceCopy, Supervised>()
  const ports = { ingest: await keepablePort(), ingest2: await keepablePort() }
  for (const name of serviceCopies) {
    const service = name.replace('2', '')
    const lines = {
      postgres: await startFaultProxy(whereIs(postgres.url)),
      redis: await startFaultProxy(whereIs(redis.url)),
    }
    resources.defer(() => {
      lines.postgres.stop()
      lines.redis.stop()
    })
    const env = {
      PATH: process.env['PATH'] ?? '',
      NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'] ?? join(root, 'node_modules/.cache/tenterhook'),
      LOG_LEVEL: 'warn',
      DATABASE_URL: through(postgres.url, lines.postgres),
      REDIS_URL: through(redis.url, lines.redis),
      TENTERHOOK_HOME: home,
      TENTERHOOK_ENCRYPTION_KEYS: `k1:${key.toString('base64')}`,
      TENTERHOOK_PUBLIC_URL: `http://127.0.0.1:${ports.ingest}`,
      ...(service === 'dispatcher' && { TENTERHOOK_ALLOW_CIDRS: '127.0.0.0/8' }),
    }
    const port = name === 'ingest' || name === 'ingest2' ? ports[name] : await keepablePort()
    const process_ = serviceProcess({ service, name, home, port, opsPort: await keepablePort(), env })
    services.set(name, supervise(name, process_, { lines, faketime, deaths, resources }))
  }
  await Promise.all(
    [...services.values()].map((service) =>
      until(service.isReady, {
        what: `${service.name} to be ready (its log is in ${home}/logs)`,
        timeoutMs: readyTimeoutMs,
        everyMs: 50,
      }),
    ),
  )
  return { store, postgres, redis, services, deaths, faketime }
}

type Supervision = {
  lines: Supervised['lines']
  faketime: string | undefined
  deaths: string[]
  resources: AsyncDisposableStack
}

function supervise(
  name: ServiceCopy,
  service: ReturnType<typeof serviceProcess>,
  { lines, faketime, deaths, resources }: Supervision,
): Supervised {
  let ending = false
  let alive = false
  let killed = false
  let clockOffset: number | undefined

  async function run(): Promise<void> {
    while (!ending) {
      const startedMs = performance.now()
      const offset = clockOffset
      killed = false
      await service.start({
        untilReady: false,
        ...(offset !== undefined && { env: clockEnvironment(faketime, offset) }),
      })
      alive = true
      const { pid } = service
      const { code, signal } = await service.exited()
      alive = false
      if (offset !== undefined) await removeFaketimeMemory(pid)
      if (ending) return
      if (!killed) deaths.push(`${name} (${signal ?? `exit ${code}`})`)
      // One that can't start is not started in a circle.
      if (performance.now() - startedMs < shortLifeMs) await delay(restartPauseMs)
    }
  }
  const running = run()
  const send = (signal: NodeJS.Signals) => {
    try {
      if (alive) service.signal(signal)
    } catch {
      // It ended a moment ago, and nobody was told yet.
    }
  }
  resources.defer(async () => {
    ending = true
    send('SIGCONT')
    if (alive) await service.kill('SIGTERM').catch(() => {})
    await running
  })
  return {
    name,
    url: service.url,
    pid: () => (alive ? service.pid : undefined),
    kill() {
      killed = true
      send('SIGKILL')
    },
    pause: () => send('SIGSTOP'),
    resume: () => send('SIGCONT'),
    setClock(offsetSeconds) {
      clockOffset = offsetSeconds
    },
    isReady: async () => (await service.ops('/readyz').catch(() => ({ status: 0 }))).status === 200,
    lines,
  }
}

/** libfaketime's: what people's clocks show is moved; the monotonic clock, which timers run on, is not. */
function clockEnvironment(library: string | undefined, offsetSeconds: number): Record<string, string> {
  if (library === undefined) throw new Error('there is no libfaketime')
  const offset = `${offsetSeconds < 0 ? '-' : '+'}${Math.abs(offsetSeconds)}`
  return { LD_PRELOAD: library, FAKETIME: offset, DONT_FAKE_MONOTONIC: '1', FAKETIME_DONT_FAKE_MONOTONIC: '1' }
}

/** What libfaketime shares among a process's threads outlives one that is killed. */
async function removeFaketimeMemory(pid: number): Promise<void> {
  for (const name of [`faketime_shm_${pid}`, `sem.faketime_sem_${pid}`]) await rm(`/dev/shm/${name}`, { force: true })
}

async function configure(
  home: string,
  store: Store,
  keys: { id: string; key: Buffer }[],
  config: ReturnType<typeof configuration>,
): Promise<void> {
  const path = join(home, 'tenterhook.yaml')
  await writeFile(path, JSON.stringify(config))
  const loaded = await loadConfigFile(path, {})
  if (loaded.kind === 'invalid') throw new Error(problemLines('the configuration', loaded.problems).join('\n'))
  const applied = await applyConfig(store, keys, loaded.desired, { prune: false, nowMs: Date.now() })
  if (applied.kind === 'refused') throw new Error(`the configuration was refused: ${JSON.stringify(applied.refusals)}`)
}

function whereIs(url: string): { host: string; port: number } {
  const { hostname, port } = new URL(url)
  return { host: hostname, port: Number(port) }
}

function through(url: string, proxy: FaultProxy): string {
  const proxied = new URL(url)
  proxied.host = `${proxy.host}:${proxy.port}`
  return proxied.href
}
