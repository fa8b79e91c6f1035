import type { ConnectionId, DeliveryId, DestinationId, EventId } from '@tenterhook/schemas/ids'
import type { Db } from './connect.ts'
import { textArray } from './binary.ts'

export interface NewDelivery {
  id: DeliveryId
  eventId: EventId
  connectionId: ConnectionId
  connectionVersion: number
  destinationId: DestinationId
  orderKey: string | null
  delayMs: number
  maxAgeMs: number
  traceparent: string | null
}

/** What routing decided about one event: its deliveries, and for each connection that didn't match, why. */
export interface Routing {
  eventId: EventId
  /** JSON text of the reasons; null when every connection matched. */
  reasons: string | null
  deliveries: readonly NewDelivery[]
}

export type Routed =
  /** These moved from accepted to routed; events of the batch that are missing were routed by another copy. */
  | { kind: 'routed'; eventIds: EventId[] }
  /** The configuration is newer than the one that decided: nothing was written. */
  | { kind: 'config_changed' }

/**
 * T2: in one transaction moves the accepted ones of these events to routed and inserts the deliveries of those it
 * moved, so that two copies never make a union. Does nothing unless the configuration still has `configVersion`.
 */
export async function routeEvents(db: Db, configVersion: number, batch: readonly Routing[]): Promise<Routed> {
  const deliveries = batch.flatMap((routing) => routing.deliveries)
  const { rows } = await db.query<{ version: string; routed: EventId[] | null }>({
    name: 'route',
    text: `WITH mine AS MATERIALIZED (
        SELECT e.id, e.seq, e.source_id FROM events e
        WHERE e.id = ANY($2::text[]) AND e.state = 'accepted' AND (SELECT version FROM config) = $1
        ORDER BY e.id FOR UPDATE SKIP LOCKED),
      done AS (
        UPDATE events e SET state = 'routed', due_at = NULL, routed_at = clock(), config_version = $1, routing = r.reasons
        FROM mine JOIN unnest($2::text[], $3::text[]) AS r(id, reasons) ON r.id = mine.id
        WHERE e.id = mine.id RETURNING e.id),
      made AS (
        INSERT INTO deliveries (id, event_id, connection_id, connection_version, destination_id, source_id, seq, order_key,
                                state, due_at, expires_at, traceparent)
        SELECT d.id, mine.id, d.connection, d.connection_version, d.destination, mine.source_id, mine.seq, d.order_key,
               'pending', clock() + d.delay_ms * interval '1 millisecond', clock() + d.max_age_ms * interval '1 millisecond', d.traceparent
        FROM mine JOIN unnest($4::text[], $5::text[], $6::text[], $7::int[], $8::text[], $9::text[], $10::float8[], $11::float8[], $12::text[])
          AS d(id, event, connection, connection_version, destination, order_key, delay_ms, max_age_ms, traceparent) ON d.event = mine.id
        ON CONFLICT (id) DO NOTHING)
      SELECT (SELECT version FROM config) AS version, (SELECT array_agg(id) FROM done) AS routed`,
    values: [
      configVersion,
      batch.map((routing) => routing.eventId),
      textArray(batch.map((routing) => routing.reasons)),
      deliveries.map((delivery) => delivery.id),
      deliveries.map((delivery) => delivery.eventId),
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
  if (!row || Number(row.version) !== configVersion) return { kind: 'config_changed' }
  return { kind: 'routed', eventIds: row.routed ?? [] }
}
