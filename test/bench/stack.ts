/**
 * The whole product as it runs on one machine: Postgres, Redis and the four services, each a process of its own, on free
 * ports, with its data in a directory that is thrown away. Each process is on a leash: it ends when this one does.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { guard } from '@tenterhook/cli/local/guardian'
import type { Guarded } from '@tenterhook/cli/local/guardian'
import { tailLog } from '@tenterhook/cli/local/log-tail'
import { choosePort } from '@tenterhook/cli/local/ports'
import { startPostgres } from '@tenterhook/cli/local/postgres'
import { startRedis } from '@tenterhook/cli/local/redis'
import { checkRedis } from '@tenterhook/queue/facts'
import { openStore } from '@tenterhook/store/connect'
import { migrate } from '@tenterhook/store/migrate'
import type { EncryptionKeys } from '@tenterhook/store/secrets'
import { request } from 'undici'
import { until } from '../support/poll.ts'
import type { Setting } from './command.ts'

export type Stack = {
  ingestUrl: string
  databaseUrl: string
  redisUrl: string
  keys: EncryptionKeys
  /** Root process ids by name. */
  pids: Record<string, number>
  /** What the servers' own settings promise, in words. */
  durability: string
}

/** `home`: an empty directory of this stack's own. */
export type StackSetting = Pick<Setting, 'root' | 'home' | 'env' | 'signal' | 'say' | 'onDeath'>

export const serviceNames = ['ingest', 'router', 'dispatcher', 'console'] as const
type ServiceName = (typeof serviceNames)[number]

const readyTimeoutMs = 30_000
const graceMs = 10_000

/** What was started is stopped by `resources`, in reverse, also when the start fails half-way. */
export async function startStack(setting: StackSetting, resources: AsyncDisposableStack): Promise<Stack> {
  const { home, signal } = setting
  for (const directory of ['run', 'logs']) await mkdir(join(home, directory), { recursive: true, mode: 0o700 })
  const postgres = await startPostgres({ home })
  resources.defer(async () => void (await postgres.stop()))
  signal.throwIfAborted()
  const redis = await startRedis({ home, env: setting.env, say: setting.say })
  resources.defer(async () => void (await redis.stop()))
  signal.throwIfAborted()
  await migrate({ connectionString: postgres.url })
  const durability = await describeDurability(postgres.url, redis.url)

  const key = randomBytes(32)
  const adminToken = randomUUID()
  const [ingestPort, consolePort] = [await choosePort(undefined), await choosePort(undefined)]
  const ports: Partial<Record<ServiceName, number>> = { ingest: ingestPort, console: consolePort }
  const servers = [postgres.server, redis.server]
  const pids: Record<string, number> = { postgres: postgres.server.pid, redis: redis.server.pid }
  let ending = false

  const services = await Promise.all(
    serviceNames.map(async (name) => {
      const opsPort = await choosePort(undefined)
      const env = {
        PATH: setting.env['PATH'] ?? '',
        // As `npm start` gives it to them.
        ...(setting.env['NODE_COMPILE_CACHE'] !== undefined && {
          NODE_COMPILE_CACHE: setting.env['NODE_COMPILE_CACHE'],
        }),
        DATABASE_URL: postgres.url,
        REDIS_URL: redis.url,
        HOST: '127.0.0.1',
        ...(ports[name] !== undefined && { PORT: String(ports[name]) }),
        TENTERHOOK_OPS_PORT: String(opsPort),
        TENTERHOOK_HOME: home,
        TENTERHOOK_ENCRYPTION_KEYS: `k1:${key.toString('base64')}`,
        TENTERHOOK_ADMIN_TOKEN: adminToken,
        TENTERHOOK_ALLOW_CIDRS: '127.0.0.0/8',
        TENTERHOOK_PUBLIC_URL: `http://127.0.0.1:${ingestPort}`,
      }
      const service = startService({ name, env, setting, servers })
      resources.defer(async () => {
        ending = true
        await service.stop()
      })
      pids[name] = service.pid
      void service.exited.then(async ({ code, signal: by }) => {
        if (ending) return
        const said = await tailLog(logOf(home, name), 8)
        setting.onDeath(new Error(`${name} ended (${by ?? code}); its last words:\n${said.join('\n')}`))
      }, setting.onDeath)
      return { name, opsPort }
    }),
  )
  for (const { name, opsPort } of services) {
    await until(
      async () => {
        signal.throwIfAborted()
        const { statusCode, body } = await request(`http://127.0.0.1:${opsPort}/readyz`)
        await body.dump()
        return statusCode === 200
      },
      { what: `${name} to be ready (its log: ${logOf(home, name)})`, timeoutMs: readyTimeoutMs, everyMs: 50 },
    )
  }
  return {
    ingestUrl: `http://127.0.0.1:${ingestPort}/in`,
    databaseUrl: postgres.url,
    redisUrl: redis.url,
    keys: [{ id: 'k1', key }],
    pids,
    durability,
  }
}

type ServiceStart = { name: ServiceName; env: Record<string, string>; setting: StackSetting; servers: Guarded[] }

/** A service holds its servers' leashes: however this process ends, they outlive the services' last commit. */
function startService({ name, env, setting: { root, home }, servers }: ServiceStart): Guarded {
  return guard(
    {
      name,
      command: process.execPath,
      args: [join(root, 'services', name, 'main.ts')],
      env,
      cwd: root,
      logPath: logOf(home, name),
      recordPath: join(home, 'run', `${name}.json`),
      stopSignal: 'SIGTERM',
      graceMs,
    },
    servers.map((server) => server.leash),
  )
}

function logOf(home: string, name: string): string {
  return join(home, 'logs', `${name}.log`)
}

/** A figure without fsync would be a figure of something else, so it is refused. */
async function describeDurability(databaseUrl: string, redisUrl: string): Promise<string> {
  const store = openStore({ connectionString: databaseUrl, applicationName: 'tenterhook-bench' })
  const shown = async (name: string) => {
    const { rows } = await store.durable.query<Record<string, string>>(`SHOW ${name}`)
    return Object.values(rows[0] ?? {})[0]
  }
  try {
    const [version, fsync, commit, pages] = [
      await shown('server_version'),
      await shown('fsync'),
      await shown('synchronous_commit'),
      await shown('full_page_writes'),
    ]
    if (fsync !== 'on' || commit !== 'on' || pages !== 'on')
      throw new Error(`Postgres runs with fsync=${fsync}, synchronous_commit=${commit}, full_page_writes=${pages}`)
    const redis = await checkRedis({ url: redisUrl, log: { info: () => {}, warn: () => {} } })
    if (redis.kind === 'unreachable') throw new Error(`Redis: ${redis.reason}`)
    const { product, version: redisVersion, appendonly, appendfsync } = redis.facts
    if (!appendonly) throw new Error('Redis runs without its append-only file')
    return `Postgres ${version} (fsync, synchronous_commit, full_page_writes on), ${product} ${redisVersion} (AOF ${appendfsync})`
  } finally {
    await store.close()
  }
}
