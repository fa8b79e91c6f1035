import type { ConnectionId, DeliveryId, DestinationId, EventId, SourceId } from '@tenterhook/schemas/ids'
import type { Lane } from '@tenterhook/schemas/states'
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
  /** As the event was read. */
  sourceId: SourceId
  seq: string
  /** JSON text of the reasons; null when every connection matched. */
  reasons: string | null
  deliveries: readonly NewDelivery[]
}

export type Routed =
  /**
   * These moved from accepted to routed; events of the batch that are missing were routed by another copy. `queued`
   * were admitted as they were made, in their first generation; `toFeed` have deliveries that wait to be admitted.
   */
  | {
      kind: 'routed'
      eventIds: EventId[]
      queued: { id: DeliveryId; destinationId: DestinationId; lane: Lane }[]
      toFeed: { id: DestinationId; tenant: string }[]
    }
  /** The configuration is newer than the one that decided: nothing was written. */
  | { kind: 'config_changed' }

/**
 * T2: in one transaction moves the accepted ones of these events to routed and inserts the deliveries of those it
 * moved, so that two copies never make a union; admits at once what has room (T3). Does nothing unless the
 * configuration still has `configVersion`. `queueWaitMs` as for feed(); without `admit` all is left to the feed.
 */
export async function routeEvents(
  db: Db,
  configVersion: number,
  batch: readonly Routing[],
  queueWaitMs: number,
  admit: boolean,
): Promise<Routed> {
  const deliveries = batch.flatMap((routing, i) =>
    routing.deliveries.map((delivery) => ({ ...delivery, seq: routing.seq, sourceId: routing.sourceId, event: i + 1 })),
  )
  const { rows } = await db.query<{
    current_version: string
    not_moved: EventId[] | null
    waiting: DeliveryId[] | null
    to_feed: DestinationId[] | null
    to_feed_tenants: string[] | null
    quarantined: DestinationId[] | null
  }>({
    name: 'route',
    text: `SELECT current_version, not_moved, waiting, to_feed, to_feed_tenants, quarantined
      FROM route_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15 * interval '1 millisecond', $16)`,
    values: [
      configVersion,
      batch.map((routing) => routing.eventId),
      textArray(batch.map((routing) => routing.reasons)),
      deliveries.map((delivery) => delivery.id),
      deliveries.map((delivery) => delivery.event),
      deliveries.map((delivery) => delivery.seq),
      deliveries.map((delivery) => delivery.sourceId),
      deliveries.map((delivery) => delivery.connectionId),
      deliveries.map((delivery) => delivery.connectionVersion),
      deliveries.map((delivery) => delivery.destinationId),
      textArray(deliveries.map((delivery) => delivery.orderKey)),
      deliveries.map((delivery) => delivery.delayMs),
      deliveries.map((delivery) => delivery.maxAgeMs),
      textArray(deliveries.map((delivery) => delivery.traceparent)),
      queueWaitMs,
      admit,
    ],
  })
  const row = rows[0]
  if (!row || Number(row.current_version) !== configVersion) return { kind: 'config_changed' }
  const notMoved = new Set(row.not_moved)
  const waiting = new Set(row.waiting)
  const quarantined = new Set(row.quarantined)
  return {
    kind: 'routed',
    eventIds: batch.flatMap((routing) => (notMoved.has(routing.eventId) ? [] : routing.eventId)),
    queued: deliveries.flatMap(({ id, eventId, destinationId }) =>
      notMoved.has(eventId) || waiting.has(id)
        ? []
        : { id, destinationId, lane: quarantined.has(destinationId) ? 'quarantine' : 'normal' },
    ),
    toFeed: (row.to_feed ?? []).map((id, i) => ({ id, tenant: row.to_feed_tenants?.[i] ?? '' })),
  }
}
