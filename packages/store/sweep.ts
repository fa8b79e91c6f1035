import type { ConnectionId, DeliveryId, DestinationId } from '@tenterhook/schemas/ids'
import type { DeliveryState, Lane } from '@tenterhook/schemas/states'
import type { Db } from './connect.ts'
import { orderKeysOf, unblock } from './feed.ts'

/** Lost leases are our own crashes, counted apart from the destination's failures; this many end a delivery that kills dispatchers. */
export const lostLeasesMax = 20

/** T6: ends leases that ran out. The condition stands in the locking statement, or a success just recorded would be undone. */
export async function sweepLeases(
  db: Db,
  rowsMax: number,
): Promise<{ id: DeliveryId; destinationId: DestinationId; state: DeliveryState }[]> {
  const { rows } = await db.query<{
    id: DeliveryId
    destination_id: DestinationId
    state: DeliveryState
    connection_id: ConnectionId
    order_key: string | null
  }>({
    name: 'sweep_leases',
    text: `WITH l AS MATERIALIZED (
        SELECT id, CASE WHEN succeeded THEN 'delivered' WHEN cancel_requested THEN 'cancelled' WHEN lost_leases + 1 >= $2 THEN 'dead' ELSE 'retrying' END AS next
        FROM deliveries WHERE admitted AND due_at <= clock() AND state = 'leased' AND wake_at <= clock()
        ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED)
      UPDATE deliveries d SET state = l.next, admitted = false, lost_leases = d.lost_leases + 1, lease_token = NULL, wake_at = NULL,
        due_at = CASE WHEN l.next = 'retrying' THEN clock() END,
        dead_reason = CASE WHEN l.next = 'dead' THEN 'leases_lost' END,
        finished_at = CASE WHEN l.next <> 'retrying' THEN clock() END
      FROM l WHERE d.id = l.id RETURNING d.id, d.destination_id, d.state, d.connection_id, d.order_key`,
    values: [rowsMax, lostLeasesMax],
  })
  await unblock(db, orderKeysOf(rows))
  return rows.map((row) => ({ id: row.id, destinationId: row.destination_id, state: row.state }))
}

/** T7: queued deliveries of a lane whose wait for a job is over, oldest first, to be leased in place: never re-added, never renumbered. */
export async function dueQueued(
  db: Db,
  lane: Lane,
  rowsMax: number,
): Promise<{ id: DeliveryId; generation: number; destinationId: DestinationId }[]> {
  const { rows } = await db.query<{ id: DeliveryId; generation: number; destination_id: DestinationId }>({
    name: 'due_queued',
    text: `SELECT id, generation, destination_id FROM deliveries
      WHERE admitted AND due_at <= clock() AND state = 'queued' AND lane = $2 AND wake_at <= clock() ORDER BY due_at LIMIT $1`,
    values: [rowsMax, lane],
  })
  return rows.map((row) => ({ id: row.id, generation: row.generation, destinationId: row.destination_id }))
}

/** How long the most overdue row waits already, in milliseconds; 0 when nothing is overdue. What waits for a window, a pause or its order isn't. */
export async function oldestDueAge(db: Db): Promise<number> {
  const { rows } = await db.query<{ ms: number | null }>({
    name: 'oldest_due',
    text: `SELECT greatest(
        (SELECT (extract(epoch FROM clock() - min(due_at)) * 1000)::float8 FROM events WHERE due_at IS NOT NULL),
        (SELECT (extract(epoch FROM clock() - min(wake_at)) * 1000)::float8 FROM deliveries WHERE admitted AND due_at <= clock())) AS ms`,
    values: [],
  })
  return Math.max(0, rows[0]?.ms ?? 0)
}

/** How old the oldest snapshot on the database is, in milliseconds: a long one slows the sweep thirtyfold (DESIGN §4). */
export async function oldestSnapshotAge(db: Db): Promise<number> {
  const { rows } = await db.query<{ ms: number | null }>({
    name: 'oldest_snapshot',
    text: `SELECT (extract(epoch FROM now() - min(xact_start)) * 1000)::float8 AS ms FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND datname = current_database()`,
    values: [],
  })
  return Math.max(0, rows[0]?.ms ?? 0)
}
