import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'

import { startPostgres } from '@tenterhook/cli/local/postgres'
import { startRedis } from '@tenterhook/cli/local/redis'

declare module 'vitest' {
  interface ProvidedContext {
    /** A superuser's URL of this run's own Postgres; tests make a schema or a database of their own in it. */
    TEST_DATABASE_URL: string
    /** This run's own Redis; tests use a prefix or a database number of their own. */
    TEST_REDIS_URL: string
  }
}

const prefix = 'tenterhook-test-'

/**
 * One Postgres and one Redis for the whole run, with the settings of `npm start`. Their guardians stop them when
 * vitest is gone, however it went; the next run then removes what it left in the temporary directory.
 */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  await removeLeftHomes()
  const home = await mkdtemp(join(tmpdir(), `${prefix}${process.pid}-`))
  const startingPostgres = startPostgres({ home })
  const startingRedis = startRedis({ home, env: process.env, say: (line) => process.stdout.write(`${line}\n`) })
  const stopAll = async () => {
    const started = await Promise.allSettled([startingPostgres, startingRedis])
    for (const server of started) if (server.status === 'fulfilled') await server.value.stop()
    await rm(home, { recursive: true, force: true })
  }
  try {
    const [postgres, redis] = await Promise.all([startingPostgres, startingRedis])
    project.provide('TEST_DATABASE_URL', postgres.url)
    project.provide('TEST_REDIS_URL', redis.url)
  } catch (error) {
    await stopAll() // vitest calls no teardown for a setup that failed
    throw error
  }
  return stopAll
}

async function removeLeftHomes(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const pid = Number.parseInt(name.slice(prefix.length), 10)
    if (name.startsWith(prefix) && pid > 0 && !isAlive(pid))
      await rm(join(tmpdir(), name), { recursive: true, force: true })
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}
