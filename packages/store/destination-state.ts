import type { DeliveryId, DestinationId } from '@tenterhook/schemas/ids'
import type { DeliveryState } from '@tenterhook/schemas/states'
import type { Db } from './connect.ts'

/** T9: pauses a destination; no delivery row is touched. Says whether it was running before. */
export async function pauseDestination(db: Db, id: DestinationId, reason: string): Promise<boolean> {
  const { rowCount } = await db.query({
    name: 'pause',
    text: 'UPDATE destinations SET paused = true, pause_reason = $2 WHERE id = $1 AND NOT paused AND deleted_at IS NULL',
    values: [id, reason],
  })
  return rowCount === 1
}

/** T9: afterwards the caller feeds the destination. */
export async function resumeDestination(db: Db, id: DestinationId): Promise<boolean> {
  const { rowCount } = await db.query({
    name: 'resume',
    text: `UPDATE destinations SET paused = false, pause_reason = NULL, closed_until = '-infinity' WHERE id = $1 AND deleted_at IS NULL`,
    values: [id],
  })
  return rowCount === 1
}

/** T8: `attemptInFlight` tells that a lease lives: the delivery ends when its attempt does. Undefined: nothing to cancel. */
export async function cancelDelivery(db: Db, id: DeliveryId): Promise<{ attemptInFlight: boolean } | undefined> {
  const { rows } = await db.query<{ state: DeliveryState }>({
    name: 'cancel',
    text: `UPDATE deliveries SET cancel_requested = true,
        state = CASE WHEN state = 'leased' THEN 'leased' ELSE 'cancelled' END,
        admitted = state = 'leased',
        due_at = CASE WHEN state = 'leased' THEN due_at END,
        wake_at = CASE WHEN state = 'leased' THEN wake_at END,
        finished_at = CASE WHEN state = 'leased' THEN NULL ELSE clock() END
      WHERE id = $1 AND due_at IS NOT NULL RETURNING state`,
    values: [id],
  })
  return rows[0] && { attemptInFlight: rows[0].state === 'leased' }
}
