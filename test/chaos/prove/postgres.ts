/**
 * The proof's Postgres: on a small tmpfs of its own where that can be mounted, so that its disk can be full, and started
 * again at once whenever its first process ends, as a service manager would.
 */
import { execFile } from 'node:child_process'
import { mkdir, rename, rm, statfs } from 'node:fs/promises'
import { totalmem } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { startPostgres } from '@tenterhook/cli/local/postgres'
import type { StartedPostgres } from '@tenterhook/cli/local/postgres'
import pg from 'pg'
import { until } from '../../support/poll.ts'

export type ProvePostgres = {
  readonly url: string
  /** SIGQUIT: what a crash or a power cut leaves. */
  stopAtOnce(): void
  /** SIGKILL of one backend that serves a service: Postgres then restarts them all. False when there was none. */
  killBackend(lot: number): Promise<boolean>
  /** SIGTERM of every such backend. */
  terminateBackends(): Promise<void>
  /** Takes all free space but some pages; gives it back. Undefined where the disk can't be made small, with the reason in `diskNote`. */
  readonly disk: { fill(): Promise<void>; free(): Promise<void> } | undefined
  readonly diskNote: string
  /** Resolves when it takes connections. */
  ready(): Promise<void>
  /** How often it was started again. */
  restarts(): number
}

/** WAL is kept up to max_wal_size (1 GB), and the events of a round. */
const diskBytesMax = 3 * 1024 ** 3
const diskBytesMin = 1.5 * 1024 ** 3
/** Left over when it is full: some pages for what is written first. */
const leftBytes = 256 * 1024
const fillTriesMax = 20
const restartPauseMs = 250
const readyTimeoutMs = 90_000

export async function startProvePostgres(home: string, resources: AsyncDisposableStack): Promise<ProvePostgres> {
  let running: StartedPostgres = await startPostgres({ home })
  const directory = join(home, 'postgres')
  const size = Math.min(diskBytesMax, Math.floor(totalmem() / 5))
  let diskNote = ''
  let onTmpfs = false
  if (size < diskBytesMin) diskNote = 'left out: too little memory for a tmpfs'
  else {
    await running.stop()
    diskNote = await moveToTmpfs(directory, size)
    onTmpfs = diskNote === ''
    if (onTmpfs) resources.defer(async () => void (await run('umount', ['-l', directory])))
    running = await startPostgres({ home })
  }
  const { url } = running
  let restarts = 0
  let ending = false

  const supervised = (async () => {
    while (!ending) {
      await running.server.exited
      while (!ending) {
        await delay(restartPauseMs)
        try {
          restarts += 1
          running = await startPostgres({ home })
          break
        } catch {
          // It can't start while its disk is full; the next try may.
        }
      }
    }
  })()
  resources.defer(async () => {
    ending = true
    await running.stop()
    await supervised
    await running.stop()
  })

  async function ask<Row extends pg.QueryResultRow>(sql: string): Promise<Row[]> {
    const client = new pg.Client({
      connectionString: url,
      connectionTimeoutMillis: 2_000,
      query_timeout: 2_000,
      application_name: 'nemesis',
    })
    client.on('error', () => {}) // what it is asked for may end this very connection
    try {
      await client.connect()
      return (await client.query<Row>(sql)).rows
    } finally {
      await client.end().catch(() => {})
    }
  }
  const backends = `FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name LIKE 'tenterhook%'`

  return {
    url,
    stopAtOnce: () => signal(running.server.pid, 'SIGQUIT'),
    async killBackend(lot) {
      const rows = await ask<{ pid: number }>(`SELECT pid ${backends} ORDER BY state = 'active' DESC, pid`).catch(
        () => [],
      )
      const pid = rows[Math.floor(lot * rows.length)]?.pid
      return pid !== undefined && signal(pid, 'SIGKILL')
    },
    terminateBackends: () =>
      ask(`SELECT pg_terminate_backend(pid) ${backends}`).then(
        () => {},
        () => {},
      ),
    disk: onTmpfs
      ? {
          async fill() {
            // What is written between the look and the change makes the size too small, which is refused.
            for (let left = fillTriesMax; ; left -= 1) {
              const { blocks, bfree, bsize } = await statfs(directory)
              const full = run('mount', ['-o', `remount,size=${(blocks - bfree) * bsize + leftBytes}`, directory])
              if (
                await full.then(
                  () => true,
                  (error: unknown) => left === 1 && Promise.reject(error),
                )
              )
                return
            }
          },
          free: async () => void (await run('mount', ['-o', `remount,size=${size}`, directory])),
        }
      : undefined,
    diskNote,
    ready: () =>
      until(async () => (await ask('SELECT 1')).length === 1, {
        what: 'Postgres to be back',
        timeoutMs: readyTimeoutMs,
        everyMs: 50,
      }).then(() => {}),
    restarts: () => restarts,
  }
}

/** The reason why not, or nothing. */
async function moveToTmpfs(directory: string, bytes: number): Promise<string> {
  const onDisk = `${directory}.disk`
  await rename(directory, onDisk)
  await mkdir(directory)
  try {
    await run('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', directory])
  } catch {
    await rm(directory, { recursive: true })
    await rename(onDisk, directory)
    return 'left out: a tmpfs can be mounted by root alone, and in some containers by nobody'
  }
  await run('cp', ['-a', `${onDisk}/.`, directory])
  await rm(onDisk, { recursive: true })
  return ''
}

const run = promisify(execFile)

function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, name)
  } catch {
    return false // it ended by itself in between
  }
}
