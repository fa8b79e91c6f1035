/**
 * Takes whole days out of events, event_content, deliveries and attempts.
 *
 * A day is kept whole while anything of it is unfinished, or an unfinished replay needs one of its events: nothing
 * unfinished is ever dropped. Its partitions go one by one, each in a transaction of its own:
 *   deliveries  from here on no delivery of the day can be retried,
 *   attempts    which belong to them,
 *   events      from here on none can be replayed,
 *   content     which nothing can ask for any more.
 * The condition is asked under the lock that takes the partition out: whoever retries or replays comes before it, and
 * is seen, or after it, and finds nothing. A crash between two steps leaves a day that the next round goes on with.
 */
import pg from 'pg'
import { timeOfId, type DeliveryId, type EventId } from '@tenterhook/schemas/ids'
import type { Db } from './connect.ts'
import {
  changePartitions,
  dayMs,
  dayName,
  dayOf,
  idsOfDay,
  isLocked,
  partitioned,
  partitionName,
  type Partitioned,
} from './partitions.ts'

const order = ['deliveries', 'attempts', 'events', 'event_content'] as const
/** How a partition that was taken out is known until it is dropped: one that an operator detached is not ours to drop. */
const takenOut = '_taken_out'
const undefinedTable = '42P01'
const daysMax = 1_000
/** Rows of the default partitions that one call deletes, of each table. */
const straysMax = 200
/** Counting the unfinished stops here. */
const countMax = 10_000

/** What of a day has not ended, counted up to 10,000 each. */
export interface Unfinished {
  events: number
  deliveries: number
  /** Of its events, made later. */
  replays: number
}

export type TakenOut =
  /** Nothing of the day is in the tables any more. */
  | { kind: 'out' }
  /** Some of it lies in the default partitions: call again. */
  | { kind: 'more' }
  /** What is left of it stays. */
  | { kind: 'unfinished'; unfinished: Unfinished }
  /** Others used its tables all the time: call again later. */
  | { kind: 'locked' }

/** The days before `beforeMs` of which anything is stored, oldest first, as the Unix milliseconds they begin at. */
export async function storedDays(db: Db, beforeMs: number): Promise<number[]> {
  const days = new Set<number>()
  const { rows } = await db.query<{ name: string }>({
    name: 'partitions',
    text: `SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
      WHERE i.inhparent = ANY($1::regclass[]) AND c.relname ~ '_\\d{8}$'`,
    values: [partitioned.map(({ table }) => table)],
  })
  for (const { name } of rows) {
    const day = Date.parse(name.slice(-8).replace(/(....)(..)(..)/, '$1-$2-$3'))
    if (day < beforeMs) days.add(day)
  }
  for (const part of partitioned) {
    // From day to day, so that a day of a million strays costs one step.
    let day = await nextStray(db, part, 0, beforeMs)
    for (let n = 0; day !== undefined && n < daysMax; n++) {
      days.add(day)
      day = await nextStray(db, part, day + dayMs, beforeMs)
    }
  }
  return [...days].toSorted((a, b) => a - b)
}

/** The day of the first row in the default partition from `fromMs` on and before `beforeMs`. */
async function nextStray(db: Db, part: Partitioned, fromMs: number, beforeMs: number): Promise<number | undefined> {
  const { rows } = await db.query<{ id: string | null }>({
    text: `SELECT min(${part.key}) AS id FROM ${part.table}_default WHERE ${part.key} >= $1 AND ${part.key} < $2`,
    values: [idsOfDay(part, fromMs)[0], idsOfDay(part, beforeMs)[0]],
  })
  const id = rows[0]?.id
  return id ? dayOf(timeOfId(id)) : undefined
}

/**
 * Takes a day's partitions out of the tables and deletes what of it lies in the default partitions, unless something of
 * it is unfinished. What was taken out slows nothing any more but still fills the disk: `dropTakenOut`. Safe to call
 * again after any outcome or crash, and in several copies at once.
 */
export async function takeOutDay(pool: pg.Pool, day: number): Promise<TakenOut> {
  try {
    for (const part of order.flatMap((table) => partitioned.filter((one) => one.table === table))) {
      // Without a lock at first: most rounds end here, and everybody would wait with us.
      const unfinished = (await unfinishedOf(pool, day)) ?? (await detach(pool, part, day))
      if (unfinished) return { kind: 'unfinished', unfinished }
      const strays = await deleteStrays(pool, part, day)
      if (strays.kind !== 'out') return strays
    }
  } catch (error) {
    if (isLocked(error) || isGone(error)) return { kind: 'locked' }
    throw error
  }
  await pool.query({ text: 'DELETE FROM overdue_days WHERE day = $1', values: [dayName(day)] })
  return { kind: 'out' }
}

/** Another copy took a partition out between our look and our statement. */
function isGone(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === undefinedTable
}

/**
 * DETACH … CONCURRENTLY is refused for a table with a default partition; this one holds the table for a moment, and
 * never waits long for it.
 */
async function detach(pool: pg.Pool, part: Partitioned, day: number): Promise<Unfinished | undefined> {
  const name = partitionName(part, day)
  if (!(await attachedOf(pool, day)).has(name)) return undefined
  return changePartitions(pool, async (db) => {
    await db.query({ text: `LOCK TABLE ONLY ${part.table} IN ACCESS EXCLUSIVE MODE`, values: [] })
    const unfinished = await unfinishedOf(db, day)
    // Another copy may have been quicker.
    if (unfinished || !(await attachedOf(db, day)).has(name)) return unfinished
    await db.query({ text: `ALTER TABLE ${part.table} DETACH PARTITION ${name}`, values: [] })
    await db.query({ text: `ALTER TABLE ${name} RENAME TO ${name}${takenOut}`, values: [] })
    return undefined
  })
}

async function deleteStrays(pool: pg.Pool, part: Partitioned, day: number): Promise<TakenOut> {
  if ((await nextStray(pool, part, day, day + dayMs)) === undefined) return { kind: 'out' }
  return changePartitions(pool, async (db): Promise<TakenOut> => {
    // Retries come by deliveries, replays by events; attempts and content are only reached through them.
    if (part.table === 'deliveries' || part.table === 'events')
      await db.query({ text: `LOCK TABLE ${part.table}_default IN ACCESS EXCLUSIVE MODE`, values: [] })
    const unfinished = await unfinishedOf(db, day)
    if (unfinished) return { kind: 'unfinished', unfinished }
    const { rowCount } = await db.query({
      text: `DELETE FROM ${part.table}_default WHERE ${part.key} = ANY(ARRAY(
          SELECT ${part.key} FROM ${part.table}_default WHERE ${part.key} >= $1 AND ${part.key} < $2 ORDER BY ${part.key} LIMIT $3))`,
      values: [...idsOfDay(part, day), straysMax],
    })
    return rowCount === 0 ? { kind: 'out' } : { kind: 'more' }
  })
}

/** Drops every partition that was taken out, by this process or by one that was killed since; returns their names. */
export async function dropTakenOut(pool: pg.Pool): Promise<string[]> {
  const { rows } = await pool.query<{ name: string }>({
    text: `SELECT relname AS name FROM pg_class
      WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND NOT relispartition AND relname ~ $1`,
    values: [`^(${order.join('|')})_\\d{8}${takenOut}$`],
  })
  const dropped: string[] = []
  for (const { name } of rows) {
    try {
      await changePartitions(pool, (db) => db.query({ text: `DROP TABLE IF EXISTS ${name}`, values: [] }))
      dropped.push(name)
    } catch (error) {
      // Somebody reads it, a backup perhaps: the next round drops it.
      if (!isLocked(error)) throw error
    }
  }
  return dropped
}

/**
 * Notes that a day past the retention has unfinished rows. `first`: no copy has noted it before, so this one alerts.
 * `sinceMs`: how long ago it was noted, on Postgres's clock.
 */
export async function noteOverdue(db: Db, day: number): Promise<{ first: boolean; sinceMs: number }> {
  const { rowCount } = await db.query({
    text: 'INSERT INTO overdue_days (day) VALUES ($1) ON CONFLICT DO NOTHING',
    values: [dayName(day)],
  })
  const { rows } = await db.query<{ ms: number }>({
    text: 'SELECT (extract(epoch FROM clock() - alerted_at) * 1000)::float8 AS ms FROM overdue_days WHERE day = $1',
    values: [dayName(day)],
  })
  return { first: rowCount === 1, sinceMs: rows[0]?.ms ?? 0 }
}

/**
 * Ends what is unfinished of a day: its unrouted events as `unroutable`, its deliveries and the replays of its events as
 * dead letters (`expired`), at most `rowsMax` of each. What is leased is left to its result, or the end of its lease.
 */
export async function expireUnfinished(
  db: Db,
  day: number,
  rowsMax: number,
): Promise<{ events: EventId[]; deliveries: DeliveryId[] }> {
  const unfinished = unfinishedIn(await attachedOf(db, day), day)
  const events = await db.query<{ id: EventId }>({
    text: `WITH old AS MATERIALIZED (${unfinished.events} LIMIT $1),
      l AS MATERIALIZED (
        SELECT e.id FROM old JOIN events e ON e.id = old.id WHERE e.state = 'accepted' ORDER BY e.id FOR UPDATE OF e SKIP LOCKED)
      UPDATE events e SET state = 'unroutable', due_at = NULL, routed_at = clock() FROM l WHERE e.id = l.id RETURNING e.id`,
    values: [rowsMax],
  })
  const deliveries = await db.query<{ id: DeliveryId }>({
    text: `WITH old AS MATERIALIZED ((${unfinished.deliveries} LIMIT $1) UNION (${unfinished.replays} LIMIT $1)),
      l AS MATERIALIZED (
        SELECT d.id FROM old JOIN deliveries d ON d.id = old.id
        WHERE d.state IN ('pending', 'queued', 'retrying') ORDER BY d.id FOR UPDATE OF d SKIP LOCKED)
      UPDATE deliveries d SET state = 'dead', dead_reason = 'expired', due_at = NULL, wake_at = NULL, admitted = false, finished_at = clock()
      FROM l WHERE d.id = l.id RETURNING d.id`,
    values: [rowsMax],
  })
  return { events: events.rows.map((row) => row.id), deliveries: deliveries.rows.map((row) => row.id) }
}

async function unfinishedOf(db: Db, day: number): Promise<Unfinished | undefined> {
  const unfinished = unfinishedIn(await attachedOf(db, day), day)
  const count = (sql: string) => `(SELECT count(*)::int FROM (${sql} LIMIT ${countMax}) t)`
  const { rows } = await db.query<Unfinished>({
    text: `SELECT ${count(unfinished.events)} AS events, ${count(unfinished.deliveries)} AS deliveries, ${count(unfinished.replays)} AS replays`,
    values: [],
  })
  const found = rows[0]
  return found && found.events + found.deliveries + found.replays > 0 ? found : undefined
}

/** Which of a day's partitions belong to their tables now. */
async function attachedOf(db: Db, day: number): Promise<Set<string>> {
  const { rows } = await db.query<{ name: string }>({
    name: 'attached',
    text: `SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
      WHERE i.inhparent = ANY($1::regclass[]) AND c.relname = ANY($2)`,
    values: [partitioned.map(({ table }) => table), partitioned.map((part) => partitionName(part, day))],
  })
  return new Set(rows.map((row) => row.name))
}

/**
 * SQL for the ids of what is unfinished of a day. It names the day's partitions, where a bound on ids would read a
 * finished day from end to end: the partial indexes on unfinished rows answer it.
 */
function unfinishedIn(attached: ReadonlySet<string>, day: number): Record<keyof Unfinished, string> {
  const of = (table: 'events' | 'deliveries', conditions: readonly string[]) => {
    const part = partitioned.find((one) => one.table === table) ?? partitioned[0]
    const name = partitionName(part, day)
    const bounds = betweenIds('id', part.prefix, day)
    return conditions
      .flatMap((condition) => [
        ...(attached.has(name) ? [`SELECT id FROM ${name} WHERE ${condition}`] : []),
        `SELECT id FROM ${table}_default WHERE ${condition} AND ${bounds}`,
      ])
      .join(' UNION ALL ')
  }
  return {
    events: of('events', ['due_at IS NOT NULL']),
    deliveries: of('deliveries', ['due_at IS NOT NULL AND NOT admitted', 'admitted']),
    replays: `SELECT id FROM deliveries WHERE replay_of IS NOT NULL AND due_at IS NOT NULL AND ${betweenIds('replay_of', 'evt', day)}`,
  }
}

function betweenIds(column: string, prefix: Partitioned['prefix'], day: number): string {
  const [from, to] = idsOfDay({ prefix }, day)
  return `${column} >= ${pg.escapeLiteral(from)} AND ${column} < ${pg.escapeLiteral(to)}`
}
