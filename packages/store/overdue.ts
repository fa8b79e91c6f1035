import { inTransaction, type Db, type Store } from './connect.ts'

/** Work that should have been done by now (`event evt_…`), and for how long. */
export interface Overdue {
  what: string
  overdueMs: number
}

/** The accepted event that waits longest for its routing, if it is overdue by `overdueMsMin`. */
export async function overdueEvent(db: Db, overdueMsMin: number): Promise<Overdue | undefined> {
  const { rows } = await db.query<{ id: string; overdue_ms: number }>({
    name: 'overdue_event',
    text: `SELECT id, (extract(epoch FROM clock() - due_at) * 1000)::float8 AS overdue_ms FROM events
      WHERE due_at IS NOT NULL AND due_at <= clock() - $1 * interval '1 millisecond' ORDER BY due_at LIMIT 1`,
    values: [overdueMsMin],
  })
  return rows[0] && { what: `event ${rows[0].id}`, overdueMs: rows[0].overdue_ms }
}

/**
 * The delivery that waits longest for its lease, for the end of a lease that ran out, or, when there is none, for being
 * admitted; if by `overdueMsMin`. What waits for a window, a pause, a breaker, a rate or its order is not overdue
 * (PROTOCOL §6).
 */
export async function overdueDelivery(db: Db, overdueMsMin: number): Promise<Overdue | undefined> {
  return (await longest(db, admittedOverdue, overdueMsMin)) ?? (await longest(db, waitingOverdue, overdueMsMin))
}

async function longest(
  db: Db,
  { name, text }: { name: string; text: string },
  overdueMsMin: number,
): Promise<Overdue | undefined> {
  const { rows } = await db.query<{ id: string; overdue_ms: number }>({ name, text, values: [overdueMsMin] })
  return rows[0] && { what: `delivery ${rows[0].id}`, overdueMs: rows[0].overdue_ms }
}

/** A destination that takes one or few at a time is waited for while it has one, in whichever dispatcher. */
const admittedOverdue = {
  name: 'overdue_admitted',
  text: `SELECT d.id, (extract(epoch FROM clock() - d.wake_at) * 1000)::float8 AS overdue_ms
    FROM deliveries d JOIN destinations t ON t.id = d.destination_id JOIN connections c ON c.id = d.connection_id
    WHERE d.admitted AND d.due_at <= clock() - $1 * interval '1 millisecond' AND d.wake_at <= clock() - $1 * interval '1 millisecond'
      AND (d.state = 'leased' OR NOT (t.paused OR c.paused OR t.closed_until > clock() OR ((t.concurrency IS NOT NULL OR t.trips > 0)
        AND EXISTS (SELECT 1 FROM deliveries l WHERE l.destination_id = t.id AND l.admitted AND l.state = 'leased'))))
    ORDER BY d.wake_at LIMIT 1`,
}

/** Destinations that are looked at in one walk. */
const destinationsMax = 1_000

/** Nothing of its destination is admitted, so its window has room; and neither a rate nor an order has a say in it. */
const waitingOverdue = {
  name: 'overdue_waiting',
  text: `WITH RECURSIVE waiting AS (
      (SELECT destination_id AS id, 1 AS n FROM deliveries WHERE due_at IS NOT NULL AND NOT admitted AND NOT blocked ORDER BY destination_id LIMIT 1)
      UNION ALL
      SELECT (SELECT d.destination_id FROM deliveries d
              WHERE d.due_at IS NOT NULL AND NOT d.admitted AND NOT d.blocked AND d.destination_id > w.id ORDER BY d.destination_id LIMIT 1), w.n + 1
      FROM waiting w WHERE w.id IS NOT NULL AND w.n < ${destinationsMax})
    SELECT x.id, (extract(epoch FROM clock() - x.due_at) * 1000)::float8 AS overdue_ms
    FROM waiting w JOIN destinations t ON t.id = w.id JOIN connections c ON c.destination_id = t.id, LATERAL (
      SELECT d.id, d.due_at FROM deliveries d
      WHERE d.destination_id = t.id AND d.connection_id = c.id AND d.due_at IS NOT NULL AND NOT d.admitted AND NOT d.blocked
        AND d.due_at <= clock() - $1 * interval '1 millisecond' AND d.order_key IS NULL AND d.expires_at > clock()
      ORDER BY d.due_at, d.seq LIMIT 1) x
    WHERE t.deleted_at IS NULL AND NOT t.paused AND t.closed_until <= clock() AND NOT c.paused
      AND coalesce(t.rate_per_second, t.rate_per_minute, t.rate_per_hour) IS NULL
      AND NOT EXISTS (SELECT 1 FROM deliveries a WHERE a.destination_id = t.id AND a.admitted)
    LIMIT 1`,
}

const insufficientPrivilege = '42501'
/** More than any of our transactions adds to its tables. */
const trialKilobytes = 1_024

/** Of a statement for a lock: longer than any of ours holds one. */
const lockWaitMs = 5_000

/**
 * Whether Postgres takes writes: not when its disk is full, when it is a standby, when it can't be asked, or while somebody's
 * lock holds statements of this service up. Tries it with a table that is dropped again. Where that is forbidden
 * nothing speaks against it.
 */
export async function takesWrites(store: Store): Promise<boolean> {
  try {
    // Of the pool that work doesn't use: a process whose others are stuck is what this is asked about.
    return await inTransaction(store.guarded, async (db) => {
      await db.query({ text: 'SET TRANSACTION READ WRITE' })
      await db.query({
        text: `CREATE TEMPORARY TABLE trial ON COMMIT DROP AS SELECT repeat('x', 1000) AS x FROM generate_series(1, ${trialKilobytes})`,
      })
      const { rows } = await db.query({
        text: `SELECT 1 FROM pg_stat_activity
          WHERE application_name = current_setting('application_name') AND datname = current_database() AND wait_event_type = 'Lock'
            AND query_start < clock_timestamp() - ${lockWaitMs} * interval '1 millisecond'`,
      })
      return rows.length === 0
    })
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === insufficientPrivilege
  }
}
