import type { DeliveryId, DestinationId } from '@tenterhook/schemas/ids'
import type { Db } from './connect.ts'

export interface Admitted {
  id: DeliveryId
  generation: number
  destinationId: DestinationId
}

/** When the sweep leases an admitted delivery that no job brought: well past the queue's usual latency, or every backlog is swept twice. */
export const queueWaitMs = 10_000

/** How many deliveries of a deleted destination one call ends. */
const deletedMax = 1_000

/**
 * T3 for each of these destinations: admits as many due deliveries as its window has room for. `queueWaitMs` is when
 * the sweep may lease them without a job; 0 when there is no queue to wait for. `skipped` were held by another
 * feeder: ask again soon.
 */
export async function feed(
  db: Db,
  destinationIds: readonly DestinationId[],
  queueWaitMs: number,
): Promise<{ admitted: Admitted[]; skipped: DestinationId[] }> {
  const { rows } = await db.query<{
    destination: DestinationId
    delivery: DeliveryId
    delivery_generation: number
    locked: boolean
  }>({
    name: 'feed',
    text: `SELECT destination, delivery, delivery_generation, locked FROM feed_v1($1, $2 * interval '1 millisecond', $3)`,
    values: [destinationIds, queueWaitMs, deletedMax],
  })
  const admitted: Admitted[] = []
  const skipped: DestinationId[] = []
  for (const row of rows) {
    if (row.locked) skipped.push(row.destination)
    else admitted.push({ id: row.delivery, generation: row.delivery_generation, destinationId: row.destination })
  }
  return { admitted, skipped }
}

/**
 * Destinations that have waiting deliveries whose time has come and that may be fed, at most `rowsMax`.
 * Walks the index from destination to destination, so a long backlog of one costs one step.
 */
export async function dueDestinations(db: Db, rowsMax: number): Promise<DestinationId[]> {
  const { rows } = await db.query<{ id: DestinationId }>({
    name: 'due_destinations',
    text: `WITH RECURSIVE waiting AS (
        (SELECT destination_id AS id FROM deliveries WHERE due_at IS NOT NULL AND NOT admitted ORDER BY destination_id LIMIT 1)
        UNION ALL
        SELECT (SELECT d.destination_id FROM deliveries d
                WHERE d.due_at IS NOT NULL AND NOT d.admitted AND d.destination_id > w.id ORDER BY d.destination_id LIMIT 1)
        FROM waiting w WHERE w.id IS NOT NULL)
      SELECT t.id FROM waiting w JOIN destinations t ON t.id = w.id
      WHERE (t.deleted_at IS NOT NULL OR (NOT t.paused AND t.closed_until <= clock()))
        AND EXISTS (SELECT 1 FROM deliveries d WHERE d.destination_id = t.id AND d.due_at IS NOT NULL AND NOT d.admitted AND d.due_at <= clock())
      LIMIT $1`,
    values: [rowsMax],
  })
  return rows.map((row) => row.id)
}

/** Ends what is over its maximum age behind a paused or closed destination, where nothing is fed; at most `rowsMax`. */
export async function expireHeld(db: Db, rowsMax: number): Promise<number> {
  const { rowCount } = await db.query({
    name: 'expire_held',
    text: `WITH over AS MATERIALIZED (
        SELECT d.id FROM destinations t JOIN deliveries d ON d.destination_id = t.id
        WHERE (t.paused OR t.closed_until > clock()) AND d.due_at IS NOT NULL AND NOT d.admitted AND d.expires_at <= clock()
        LIMIT $1 FOR UPDATE OF d SKIP LOCKED)
      UPDATE deliveries d SET state = 'dead', dead_reason = 'expired', due_at = NULL, finished_at = clock() FROM over WHERE d.id = over.id`,
    values: [rowsMax],
  })
  return rowCount ?? 0
}
