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
 * The admitted delivery whose lease, or whose end of a lease, is overdue longest, if by `overdueMsMin`. What waits for a window,
 * a pause, a breaker, a rate or its order is not admitted, and not overdue (PROTOCOL §6).
 */
export async function overdueDelivery(db: Db, overdueMsMin: number): Promise<Overdue | undefined> {
  const { rows } = await db.query<{ id: string; overdue_ms: number }>({
    name: 'overdue_delivery',
    text: `SELECT id, (extract(epoch FROM clock() - wake_at) * 1000)::float8 AS overdue_ms FROM deliveries
      WHERE admitted AND wake_at <= clock() - $1 * interval '1 millisecond' ORDER BY wake_at LIMIT 1`,
    values: [overdueMsMin],
  })
  return rows[0] && { what: `delivery ${rows[0].id}`, overdueMs: rows[0].overdue_ms }
}

const insufficientPrivilege = '42501'
/** More than any of our transactions adds to its tables. */
const trialKilobytes = 1_024

/**
 * Whether Postgres takes writes: not when its disk is full, when it is a standby, or when it can't be asked. Tries it with
 * a table that is dropped again. Where that is forbidden nothing speaks against it.
 */
export async function takesWrites(store: Store): Promise<boolean> {
  try {
    // Of the pool that work doesn't use: a process whose others are stuck is what this is asked about.
    await inTransaction(store.guarded, async (db) => {
      await db.query({ text: 'SET TRANSACTION READ WRITE' })
      await db.query({
        text: `CREATE TEMPORARY TABLE trial ON COMMIT DROP AS SELECT repeat('x', 1000) AS x FROM generate_series(1, ${trialKilobytes})`,
      })
    })
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === insufficientPrivilege
  }
}
