import type { ConnectionId, DeliveryId, DestinationId } from '@tenterhook/schemas/ids'
import type { DeliveryState } from '@tenterhook/schemas/states'
import type { Db } from './connect.ts'
import { unblock } from './feed.ts'

/** T9: pauses a destination; no delivery row is touched. Says whether it was running before. */
export async function pauseDestination(db: Db, id: DestinationId, reason: string): Promise<boolean> {
  const { rowCount } = await db.query({
    name: 'pause',
    text: 'UPDATE destinations SET paused = true, pause_reason = $2 WHERE id = $1 AND NOT paused AND deleted_at IS NULL',
    values: [id, reason],
  })
  return rowCount === 1
}

/**
 * T9: ends a pause, and closes the breaker with all that led to it: whoever resumes a destination knows it to be well.
 * Afterwards the caller feeds it. Undefined when there is none of that id, or no longer.
 */
export async function resumeDestination(db: Db, id: DestinationId): Promise<DestinationId | undefined> {
  const { rows } = await db.query<{ id: DestinationId }>({
    name: 'resume',
    text: `UPDATE destinations SET paused = false, pause_reason = NULL,
        closed_until = '-infinity', trips = 0, failures_in_row = 0, failing_since = NULL
      WHERE id = $1 AND deleted_at IS NULL RETURNING id`,
    values: [id],
  })
  return rows[0]?.id
}

/** T8: `attemptInFlight` tells that a lease lives: the delivery ends when its attempt does. Undefined: nothing to cancel. */
export async function cancelDelivery(db: Db, id: DeliveryId): Promise<{ attemptInFlight: boolean } | undefined> {
  const { rows } = await db.query<{ state: DeliveryState; connection_id: ConnectionId; order_key: string | null }>({
    name: 'cancel',
    text: `UPDATE deliveries SET cancel_requested = true,
        state = CASE WHEN state = 'leased' THEN 'leased' ELSE 'cancelled' END,
        admitted = state = 'leased',
        due_at = CASE WHEN state = 'leased' THEN due_at END,
        wake_at = CASE WHEN state = 'leased' THEN wake_at END,
        finished_at = CASE WHEN state = 'leased' THEN NULL ELSE clock() END
      WHERE id = $1 AND due_at IS NOT NULL RETURNING state, connection_id, order_key`,
    values: [id],
  })
  const row = rows[0]
  if (!row) return undefined
  // It may have held those behind it in its key; not of the cancel's transaction, since the router's order sweep finds what is missed.
  if (row.state === 'cancelled' && row.order_key !== null)
    await unblock(db, [{ connectionId: row.connection_id, orderKey: row.order_key }])
  return { attemptInFlight: row.state === 'leased' }
}
