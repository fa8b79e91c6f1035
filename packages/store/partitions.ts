import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { lowestIdAt } from '@tenterhook/schemas/ids'
import { inTransaction, type Db } from './connect.ts'

export const dayMs = 86_400_000
const checkViolation = '23514'
const lockNotAvailable = '55P03'
/** Days made ahead, today apart: a process that makes them may be gone for this long. */
export const daysAhead = 3

/** Any fixed number. */
const partitionLock = 7_316_041_553
/** How long copies wait for each other: nobody else waits with them. */
const copyWaitMs = 2_000
/** Whoever wants a table that we wait for waits behind us, for this long at most; then they go first. */
const tableWaitMs = 250
const pauseMs = 250
const triesMax = 5

/** Tables cut by day, the id they are cut by and its prefix, and what suits their updates (DESIGN §4). */
export const partitioned = [
  { table: 'events', key: 'id', prefix: 'evt', settings: 'fillfactor = 80, autovacuum_vacuum_scale_factor = 0.1' },
  { table: 'event_content', key: 'event_id', prefix: 'evt', settings: 'fillfactor = 100' },
  { table: 'deliveries', key: 'id', prefix: 'dlv', settings: 'fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05' },
  { table: 'attempts', key: 'delivery_id', prefix: 'dlv', settings: 'fillfactor = 100' },
] as const

export type Partitioned = (typeof partitioned)[number]

/** The UTC day of a time, as the Unix milliseconds it begins at. */
export function dayOf(ms: number): number {
  return Math.floor(ms / dayMs) * dayMs
}

/** `2026-01-31` */
export function dayName(day: number): string {
  return new Date(day).toISOString().slice(0, 10)
}

/** `events_20260131` */
export function partitionName({ table }: Partitioned, day: number): string {
  return `${table}_${dayName(day).replaceAll('-', '')}`
}

/** The ids of a day: from, inclusive, and to, exclusive. */
export function idsOfDay({ prefix }: Pick<Partitioned, 'prefix'>, day: number): [from: string, to: string] {
  return [lowestIdAt(prefix, day), lowestIdAt(prefix, day + dayMs)]
}

/**
 * Makes the partitions of today and the next days where they are missing; returns the names of those it made.
 * A day whose rows already lie in the default partition stays there: that is slower to drop, and loses nothing.
 */
export async function ensurePartitions(pool: pg.Pool, nowMs: number): Promise<string[]> {
  const made: string[] = []
  for (let n = 0; n <= daysAhead; n++) {
    const day = dayOf(nowMs) + n * dayMs
    for (const part of partitioned) {
      const name = partitionName(part, day)
      const [from, to] = idsOfDay(part, day)
      const created = await changePartitions(pool, async (db) => {
        const { rows } = await db.query<{ there: boolean; strays: boolean }>({
          text: `SELECT to_regclass($1) IS NOT NULL AS there,
            EXISTS (SELECT 1 FROM ${part.table}_default WHERE ${part.key} >= $2 AND ${part.key} < $3) AS strays`,
          values: [name, from, to],
        })
        if (rows[0]?.there || rows[0]?.strays) return false
        await db.query({
          text: `CREATE TABLE ${name} (LIKE ${part.table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS) WITH (${part.settings})`,
          values: [],
        })
        // For the migration's reason.
        if (part.table === 'events' || part.table === 'deliveries')
          await db.query({ text: 'SELECT forget_statistics($1::text::regclass)', values: [name] })
        await db.query({
          text: `ALTER TABLE ${part.table} ATTACH PARTITION ${name} FOR VALUES FROM (${pg.escapeLiteral(from)}) TO (${pg.escapeLiteral(to)})`,
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

/**
 * One transaction that makes, takes out or drops partitions; one at a time in all copies. Such a change locks a table in use for
 * a moment, and while it waits for that lock everybody else waits behind it: so it waits shortly, several times, and
 * throws when it got no turn (SQLSTATE 55P03).
 */
export async function changePartitions<T>(pool: pg.Pool, work: (db: Db) => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await inTransaction(pool, async (db) => {
        await db.query({ text: `SET LOCAL lock_timeout = ${copyWaitMs}`, values: [] })
        await db.query({
          text: `SELECT pg_advisory_xact_lock($1::bigint # hashtext(current_schema())::bigint)`,
          values: [partitionLock],
        })
        await db.query({ text: `SET LOCAL lock_timeout = ${tableWaitMs}`, values: [] })
        return work(db)
      })
    } catch (error) {
      if (!isLocked(error) || tries === triesMax) throw error
      await delay(pauseMs)
    }
  }
}

/** Another transaction held for longer what this one wanted. */
export function isLocked(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === lockNotAvailable
}
