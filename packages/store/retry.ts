import type { DeliveryId, DestinationId } from '@tenterhook/schemas/ids'
import type { DeliveryState } from '@tenterhook/schemas/states'
import type { Db } from './connect.ts'

export type Retried =
  /** `was`: the state that it was in. */
  | { kind: 'retried'; destinationId: DestinationId; was: DeliveryState }
  /** A request with this key was answered before, or a moment ago: nothing was written. */
  | { kind: 'key_known' }
  | { kind: 'destination_deleted' }
  /** Delivered, or queued or leased: its attempt is under way. */
  | { kind: 'refused'; state: DeliveryState }
  | { kind: 'unknown' }

/**
 * Makes a delivery due now, durably, and keeps the answer under the request's key. A dead or cancelled one waits
 * again as it did when it was new: the whole schedule and `maxAgeMs` are before it. Its attempts, its generation and
 * its place in the order stay, so that no job or lease of before can be taken for a new one.
 */
export async function retryDelivery(
  durable: Db,
  retry: { key: string; id: DeliveryId; maxAgeMs: number },
): Promise<Retried> {
  const { rows } = await durable.query<{
    state: DeliveryState
    destination_id: DestinationId
    gone: boolean
    may: boolean
    kept: boolean
  }>({
    name: 'retry',
    text: `WITH wanted AS MATERIALIZED (
        SELECT d.id, d.state, d.destination_id, t.deleted_at IS NOT NULL AS gone,
          t.deleted_at IS NULL AND d.state IN ('pending', 'retrying', 'dead', 'cancelled') AS may
        FROM deliveries d JOIN destinations t ON t.id = d.destination_id
        -- A dead replay may outlive its event, which took along what there was to send.
        WHERE d.id = $2 AND EXISTS (SELECT 1 FROM event_content c WHERE c.event_id = d.event_id) FOR UPDATE OF d),
      kept AS (
        INSERT INTO replays (key, kind, target_id, result)
        SELECT $1, 'retry', w.id, json_build_object('id', w.id, 'was', w.state)::text FROM wanted w WHERE w.may
        ON CONFLICT (key) DO NOTHING RETURNING key),
      moved AS (
        UPDATE deliveries d SET
          state = CASE WHEN w.state = 'retrying' THEN 'retrying' ELSE 'pending' END,
          -- What a result that commits meanwhile sets too: Postgres checks the older row's values first.
          admitted = false, blocked = false, lease_token = NULL, wake_at = NULL,
          due_at = clock(),
          expires_at = greatest(d.expires_at, clock() + $3 * interval '1 millisecond'),
          failures = CASE WHEN w.state IN ('dead', 'cancelled') THEN 0 ELSE d.failures END,
          lost_leases = CASE WHEN w.state IN ('dead', 'cancelled') THEN 0 ELSE d.lost_leases END,
          cancel_requested = false, dead_reason = NULL, finished_at = NULL
        FROM wanted w, kept WHERE d.id = w.id)
      SELECT w.state, w.destination_id, w.gone, w.may, EXISTS (SELECT 1 FROM kept) AS kept FROM wanted w`,
    values: [retry.key, retry.id, retry.maxAgeMs],
  })
  const row = rows[0]
  if (!row) return { kind: 'unknown' }
  if (row.kept) return { kind: 'retried', destinationId: row.destination_id, was: row.state }
  if (row.may) return { kind: 'key_known' }
  return row.gone && row.state !== 'delivered' ? { kind: 'destination_deleted' } : { kind: 'refused', state: row.state }
}
