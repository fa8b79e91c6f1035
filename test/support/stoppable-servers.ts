/** The Postgres and the Redis of a stack, to be stopped, killed, made to hang and started again. */
import { randomBytes, randomUUID } from 'node:crypto'
import { cp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { startPostgres } from '@tenterhook/cli/local/postgres'
import type { StartedPostgres } from '@tenterhook/cli/local/postgres'
import { startRedis } from '@tenterhook/cli/local/redis'
import type { StartedRedis } from '@tenterhook/cli/local/redis'
import pg from 'pg'
import { inject } from 'vitest'
import { keepablePort } from './ports.ts'

export type StoppableRedis = {
  readonly url: string
  readonly pid: number
  /** SIGSTOP and SIGCONT: a Redis that hangs. */
  hang(): void
  goOn(): void
  /** SIGKILL. */
  kill(): Promise<void>
  /** Everything it has now, to be started with later. */
  copyData(): Promise<RedisData>
  /** Starts it again on its port: with what its append-only file kept, without it, or with what it had before. */
  start(options: { data: 'kept' | 'lost' | RedisData }): Promise<void>
}

export type RedisData = { readonly directory: string }

export type StoppablePostgres = {
  readonly url: string
  /** An immediate shutdown: what a crash or a power cut leaves, and the sessions of everybody broken. */
  stopAtOnce(): Promise<void>
  start(): Promise<void>
}

/** A database of its own in the run's Postgres. */
export async function sharedPostgres(resources: AsyncDisposableStack): Promise<StoppablePostgres> {
  const server = inject('TEST_DATABASE_URL')
  const name = `stack_${randomBytes(6).toString('hex')}`
  await asAdmin(server, `CREATE DATABASE ${name} TEMPLATE template0`)
  resources.defer(() => asAdmin(server, `DROP DATABASE ${name} WITH (FORCE)`))
  const url = new URL(server)
  url.pathname = `/${name}`
  const refuse = () => Promise.reject(new Error('this Postgres is everybody’s: ask for a stack with its own'))
  return { url: url.href, stopAtOnce: refuse, start: refuse }
}

async function asAdmin(connectionString: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}

export async function ownPostgres(home: string, resources: AsyncDisposableStack): Promise<StoppablePostgres> {
  await keepAccess(join(home, 'postgres.json'))
  let running: StartedPostgres = await startPostgres({ home })
  resources.defer(async () => void (await running.stop()))
  return {
    url: running.url,
    async stopAtOnce() {
      process.kill(running.server.pid, 'SIGQUIT')
      await running.server.exited
    },
    async start() {
      running = await startPostgres({ home })
    },
  }
}

export async function ownRedis(home: string, resources: AsyncDisposableStack): Promise<StoppableRedis> {
  await keepAccess(join(home, 'redis.json'))
  const start = () => startRedis({ home, env: process.env, say: (line) => process.stdout.write(`${line}\n`) })
  let running: StartedRedis = await start()
  resources.defer(async () => {
    signalIfThere(running.server.pid, 'SIGCONT')
    await running.stop()
  })
  return {
    url: running.url,
    get pid() {
      return running.server.pid
    },
    hang: () => void process.kill(running.server.pid, 'SIGSTOP'),
    goOn: () => void process.kill(running.server.pid, 'SIGCONT'),
    async kill() {
      process.kill(running.server.pid, 'SIGKILL')
      await running.server.exited
    },
    async copyData() {
      const directory = join(home, `redis-${randomUUID()}`)
      await cp(join(home, 'redis', 'appendonlydir'), directory, { recursive: true })
      return { directory }
    },
    async start({ data }) {
      if (data !== 'kept') await rm(join(home, 'redis'), { recursive: true })
      if (typeof data === 'object') await cp(data.directory, join(home, 'redis', 'appendonlydir'), { recursive: true })
      running = await start()
    },
  }
}

export async function neverRedis(): Promise<StoppableRedis> {
  const refuse = () => {
    throw new Error('this stack has no Redis')
  }
  const url = `redis://127.0.0.1:${await keepablePort()}`
  return { url, pid: 0, hang: refuse, goOn: refuse, kill: refuse, copyData: refuse, start: refuse }
}

/** What packages/cli/local/remembered.ts reads: a server that is stopped finds its port again. */
async function keepAccess(path: string): Promise<void> {
  const access = { port: await keepablePort(), password: randomBytes(12).toString('hex') }
  await writeFile(path, JSON.stringify(access), { mode: 0o600 })
}

function signalIfThere(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // it is gone, which is as well
  }
}
