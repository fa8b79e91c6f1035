import type { EventId } from '@tenterhook/schemas/ids'
import { textArray } from './binary.ts'
import type { Db } from './connect.ts'
import type { NewDelivery } from './route.ts'

export type Replayed =
  | { kind: 'replayed' }
  /** A request with this key was answered before, or a moment ago: nothing was written. */
  | { kind: 'key_known' }
  /** The configuration is newer than the one that decided: nothing was written. */
  | { kind: 'config_changed' }
  /** Its day went by retention meanwhile: nothing was written. */
  | { kind: 'event_gone' }

/**
 * T10: in one durable transaction inserts an event's new deliveries and keeps the answer under the request's key, so
 * that of any number of equal requests exactly one replays. Does nothing unless the configuration still has
 * `configVersion`. The deliveries take one new place in the order of acceptance: a replay joins at the end of its key.
 */
export async function replayEvent(
  durable: Db,
  replay: { key: string; eventId: EventId; configVersion: number; result: string; deliveries: readonly NewDelivery[] },
): Promise<Replayed> {
  const { deliveries } = replay
  const { rows } = await durable.query<{ version: string; kept: boolean; there: boolean }>({
    name: 'replay',
    text: `WITH kept AS (
        INSERT INTO replays (key, kind, target_id, delivery_ids, result)
        SELECT $1, 'replay', $2, $5::text[], $4 WHERE (SELECT version FROM config) = $3 AND EXISTS (SELECT 1 FROM events WHERE id = $2)
        ON CONFLICT (key) DO NOTHING RETURNING target_id),
      turn AS MATERIALIZED (SELECT target_id, nextval('event_seq') AS seq FROM kept),
      made AS (
        INSERT INTO deliveries (id, event_id, connection_id, connection_version, destination_id, source_id, seq, order_key,
                                state, due_at, expires_at, replay_of, traceparent)
        SELECT d.id, e.id, d.connection, d.connection_version, d.destination, e.source_id, turn.seq, d.order_key,
               'pending', clock() + d.delay_ms * interval '1 millisecond', clock() + d.max_age_ms * interval '1 millisecond', e.id, d.traceparent
        FROM turn JOIN events e ON e.id = turn.target_id
        CROSS JOIN unnest($5::text[], $6::text[], $7::int[], $8::text[], $9::text[], $10::float8[], $11::float8[], $12::text[])
          AS d(id, connection, connection_version, destination, order_key, delay_ms, max_age_ms, traceparent))
      SELECT (SELECT version FROM config) AS version, EXISTS (SELECT 1 FROM kept) AS kept, EXISTS (SELECT 1 FROM events WHERE id = $2) AS there`,
    values: [
      replay.key,
      replay.eventId,
      replay.configVersion,
      replay.result,
      deliveries.map((delivery) => delivery.id),
      deliveries.map((delivery) => delivery.connectionId),
      deliveries.map((delivery) => delivery.connectionVersion),
      deliveries.map((delivery) => delivery.destinationId),
      textArray(deliveries.map((delivery) => delivery.orderKey)),
      deliveries.map((delivery) => delivery.delayMs),
      deliveries.map((delivery) => delivery.maxAgeMs),
      textArray(deliveries.map((delivery) => delivery.traceparent)),
    ],
  })
  const row = rows[0]
  if (row?.kept) return { kind: 'replayed' }
  if (!row?.there) return { kind: 'event_gone' }
  return Number(row.version) === replay.configVersion ? { kind: 'key_known' } : { kind: 'config_changed' }
}
