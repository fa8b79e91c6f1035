import type { DestinationId } from '@tenterhook/schemas/ids'
import type { Db } from './connect.ts'

/**
 * How a destination's breaker stands. `open`: nothing is sent to it for a while, since it failed on and on or asked for
 * that (429, 503, Retry-After). `half_open`: that while is over after failures, and one delivery at a time tries it.
 */
export type BreakerState = 'closed' | 'open' | 'half_open'

/** The same in SQL, over the columns of `destinations`. */
export const breakerState = `CASE WHEN closed_until > clock() THEN 'open' WHEN trips > 0 THEN 'half_open' ELSE 'closed' END`

export interface NotHealthy {
  id: DestinationId
  name: string
  /** The first of these that is true of it; `slow`: it runs in the quarantine lane for its long attempts. */
  state: 'paused' | 'open' | 'half_open' | 'slow'
}

/** Destinations of which something keeps deliveries from their usual way, at most `rowsMax`. Reads every destination: to be asked every few seconds. */
export async function destinationsNotHealthy(db: Db, rowsMax: number): Promise<NotHealthy[]> {
  const { rows } = await db.query<NotHealthy>({
    name: 'destinations_not_healthy',
    text: `SELECT id, name, CASE WHEN paused THEN 'paused' WHEN ${breakerState} = 'closed' THEN 'slow' ELSE ${breakerState} END AS state
      FROM destinations
      WHERE deleted_at IS NULL AND (paused OR closed_until > clock() OR trips > 0 OR slow_until > clock())
      ORDER BY id LIMIT $1`,
    values: [rowsMax],
  })
  return rows
}
