import pg from 'pg'
import { lowestIdAt } from '@tenterhook/schemas/ids'
import { inTransaction } from './connect.ts'

const dayMs = 86_400_000
const checkViolation = '23514'
/** Days made ahead, today apart: a process that makes them may be gone for this long. */
export const daysAhead = 3

/** Any fixed number. */
const partitionLock = 7_316_041_553

/** Tables cut by day, the id they are cut by and its prefix, and what suits their updates (DESIGN §4). */
const partitioned = [
  { table: 'events', key: 'id', prefix: 'evt', settings: 'fillfactor = 80, autovacuum_vacuum_scale_factor = 0.1' },
  { table: 'event_content', key: 'event_id', prefix: 'evt', settings: 'fillfactor = 100' },
  { table: 'deliveries', key: 'id', prefix: 'dlv', settings: 'fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05' },
  { table: 'attempts', key: 'delivery_id', prefix: 'dlv', settings: 'fillfactor = 100' },
] as const

/**
 * Makes the partitions of today and the next days where they are missing; returns the names of those it made.
 * A day whose rows already lie in the default partition stays there: that is slower to drop, and loses nothing.
 */
export async function ensurePartitions(pool: pg.Pool, nowMs: number): Promise<string[]> {
  const made: string[] = []
  const today = Math.floor(nowMs / dayMs) * dayMs
  for (let day = 0; day <= daysAhead; day++) {
    const from = today + day * dayMs
    const suffix = new Date(from).toISOString().slice(0, 10).replaceAll('-', '')
    for (const { table, key, prefix, settings } of partitioned) {
      const name = `${table}_${suffix}`
      const created = await inTransaction(pool, async (db) => {
        await db.query({ text: `SET LOCAL lock_timeout = '2s'`, values: [] })
        // Two copies of the router make them at the same minute.
        await db.query({ text: 'SELECT pg_advisory_xact_lock($1)', values: [partitionLock] })
        const { rows } = await db.query<{ there: boolean; strays: boolean }>({
          text: `SELECT to_regclass($1) IS NOT NULL AS there,
            EXISTS (SELECT 1 FROM ${table}_default WHERE ${key} >= $2 AND ${key} < $3) AS strays`,
          values: [name, lowestIdAt(prefix, from), lowestIdAt(prefix, from + dayMs)],
        })
        if (rows[0]?.there || rows[0]?.strays) return false
        await db.query({
          text: `CREATE TABLE ${name} (LIKE ${table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS) WITH (${settings})`,
          values: [],
        })
        await db.query({
          text: `ALTER TABLE ${table} ATTACH PARTITION ${name} FOR VALUES FROM (${pg.escapeLiteral(lowestIdAt(prefix, from))}) TO (${pg.escapeLiteral(lowestIdAt(prefix, from + dayMs))})`,
          values: [],
        })
        return true
      }).catch((error: unknown) => {
        // A row came into the default partition after the look: its day stays there like any other with strays.
        if (error instanceof pg.DatabaseError && error.code === checkViolation) return false
        throw error
      })
      if (created) made.push(name)
    }
  }
  return made
}
