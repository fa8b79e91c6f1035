import type pg from 'pg'
import type { Db } from './connect.ts'

/** A connection that is there, taken out of its pool until it is given back. */
export interface Checkout {
  db: Db
  /** With an error it is closed in place of being used again. */
  giveBack(error?: unknown): void
}

/**
 * Takes a connection out of the pool, so that the caller knows when a statement can go at once: what it would send may
 * have left by then. Rejects when none comes within the pool's connect timeout.
 */
export async function checkOut(pool: pg.Pool): Promise<Checkout> {
  const client = await pool.connect()
  let broken: Error | undefined
  // A checked-out client that loses its connection says so by an event too; unheard, it would end the process.
  const onLost = (error: Error) => {
    broken = error
  }
  client.on('error', onLost)
  return {
    db: client,
    giveBack(error) {
      client.off('error', onLost)
      client.release(broken ?? error !== undefined)
    },
  }
}
