import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'

import { until } from '../../../test/support/poll.ts'
import { startPostgres } from './postgres.ts'
import { processesOf } from './stand-ins/alive.ts'

let home: string

beforeEach(async () => {
  // As a clone in root's home is: closed to everyone else, and with a space in its path.
  const closed = await mkdtemp(join(tmpdir(), 'tenterhook closed-'))
  await chmod(closed, 0o700)
  home = join(closed, '.tenterhook')
  await mkdir(home, { mode: 0o700 })
})

afterEach(async () => {
  await until(() => processesOf(home).length === 0, { what: 'every Postgres process to be gone', timeoutMs: 20_000 })
  await rm(join(home, '..'), { recursive: true })
})

async function ask<Row extends object>(url: string, sql: string): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query<Row>(sql)).rows
  } finally {
    await client.end()
  }
}

describe('the local Postgres', () => {
  it('keeps its data, its URL and its password over a restart', async () => {
    const first = await startPostgres({ home })
    await ask(first.url, 'CREATE TABLE kept AS SELECT 42 AS answer')
    await first.stop()
    const second = await startPostgres({ home })
    expect(second.url).toBe(first.url)
    expect(await ask(second.url, 'SELECT answer FROM kept')).toEqual([{ answer: 42 }])
    await second.stop()
  })

  it('is UTF8 with the C locale when LANG is unset, and says yes to every question of durability', async () => {
    for (const name of ['LANG', 'LC_ALL', 'LC_CTYPE']) vi.stubEnv(name, undefined)
    const { url, stop } = await startPostgres({ home }).finally(() => vi.unstubAllEnvs())
    const [facts] = await ask(
      url,
      `SELECT pg_encoding_to_char(encoding) AS encoding, datcollate, datctype, current_setting('fsync') AS fsync,
         current_setting('full_page_writes') AS full_page_writes, current_setting('synchronous_commit') AS synchronous_commit
       FROM pg_database WHERE datname = current_database()`,
    )
    const on = { fsync: 'on', full_page_writes: 'on', synchronous_commit: 'on' }
    expect(facts).toEqual({ encoding: 'UTF8', datcollate: 'C', datctype: 'C', ...on })
    await stop()
  })

  it('lets nobody in without the password', async () => {
    const { url, stop } = await startPostgres({ home })
    await expect(ask(url.replace(/:[^:@/]+@/, ':wrong@'), 'SELECT 1')).rejects.toThrow('password authentication failed')
    await stop()
  })

  it.runIf(process.getuid?.() === 0)(
    'runs as another user when we are root, on data in a directory that user can not enter',
    async () => {
      const { server, stop } = await startPostgres({ home })
      const status = await readFile(`/proc/${server.pid}/status`, 'utf8')
      expect(/^Uid:\s+(\d+)/m.exec(status)?.[1]).toBe(String((await stat(join(home, 'postgres'))).uid))
      expect(/^Uid:\s+(\d+)/m.exec(status)?.[1]).not.toBe('0')
      expect((await stat(home)).mode & 0o777).toBe(0o700)
      await stop()
    },
  )

  it('starts again on its data after it was killed', async () => {
    const first = await startPostgres({ home })
    await ask(first.url, 'CREATE TABLE kept AS SELECT 42 AS answer')
    process.kill(first.server.pid, 'SIGKILL')
    await first.server.exited
    await until(() => processesOf(home).length === 0, {
      what: "the killed Postgres's children to be gone",
      timeoutMs: 20_000,
    })
    const second = await startPostgres({ home })
    expect(await ask(second.url, 'SELECT answer FROM kept')).toEqual([{ answer: 42 }])
    await second.stop()
  })

  it('starts although the pid in its lock file has been given to another program', async () => {
    await (await startPostgres({ home })).stop()
    const lock = join(home, 'postgres/postmaster.pid')
    await writeFile(lock, `${process.ppid}\n${join(home, 'postgres')}\n1\n5432\n\n127.0.0.1\n0 0\nready\n`)
    await (await startPostgres({ home })).stop()
  })

  it('takes another port when somebody has taken its own', async () => {
    const first = await startPostgres({ home })
    await first.stop()
    const squatter = createServer().listen(Number(new URL(first.url).port), '127.0.0.1')
    const second = await startPostgres({ home })
    expect(new URL(second.url).port).not.toBe(new URL(first.url).port)
    expect(await ask(second.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }])
    await second.stop()
    squatter.close()
  })

  it('makes a cluster where an earlier start was killed while it made one', async () => {
    await mkdir(join(home, 'postgres.new/base'), { recursive: true })
    await (await startPostgres({ home })).stop()
  })

  it('refuses data of another major version in one line', async () => {
    await mkdir(join(home, 'postgres'))
    await writeFile(join(home, 'postgres/PG_VERSION'), '9\n')
    await expect(startPostgres({ home })).rejects.toThrow(/was made by Postgres 9, this version runs 18[^\n]+$/)
  })
})
