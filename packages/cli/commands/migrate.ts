import { openStore } from '@tenterhook/store/connect'
import { migrate } from '@tenterhook/store/migrate'
import { ensurePartitions } from '@tenterhook/store/partitions'
import { Command } from 'commander'
import { explainDatabaseError, findDatabaseUrl } from './database.ts'
import type { Surroundings } from './surroundings.ts'

export function migrateCommand(surroundings: Surroundings): Command {
  return new Command('migrate')
    .description('bring the schema of DATABASE_URL to this version; `up` does it by itself')
    .action(async () => {
      const url = await findDatabaseUrl(surroundings)
      const ran = await migrateDatabase(url, surroundings.nowMs())
      for (const name of ran) surroundings.out(`ran ${name}`)
      surroundings.out(ran.length === 0 ? 'the schema is up to date' : 'the schema is up to date now')
    })
}

/** `prepareSchema`; what Postgres refuses, and what this version can't work with, becomes one line. */
export async function migrateDatabase(url: string, nowMs: number): Promise<string[]> {
  try {
    return await prepareSchema(url, nowMs)
  } catch (error) {
    throw explainDatabaseError(error, url)
  }
}

/**
 * Runs the migrations and makes the days ahead: the router does that too, but ingest may be ready first, and the first
 * day's events would lie in the default partition for good. Returns the names of the migrations that ran.
 */
export async function prepareSchema(databaseUrl: string, nowMs: number): Promise<string[]> {
  const ran = await migrate({ connectionString: databaseUrl })
  const store = openStore({ connectionString: databaseUrl, applicationName: 'tenterhook-migrate' })
  try {
    await ensurePartitions(store.durable, nowMs)
  } finally {
    await store.close()
  }
  return ran
}
