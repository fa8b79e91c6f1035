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
  /**
   * These moved from accepted to routed; events of the batch that are missing were routed by another copy. `queued`
   * were admitted as they were made, in their first generation; `toFeed` have deliveries that wait to be admitted.
   */
  | { kind: 'routed'; eventIds: EventId[]; queued: DeliveryId[]; toFeed: DestinationId[] }
  /** The configuration is newer than the one that decided: nothing was written. */
  | { kind: 'config_changed' }

/**
 * T2: in one transaction moves the accepted ones of these events to routed and inserts the deliveries of those it
 * moved, so that two copies never make a union; admits at once what has room (T3). Does nothing unless the
 * configuration still has `configVersion`. `queueWaitMs` as for feed().
 */
export async function routeEvents(db: Db, configVersion: number, batch: readonly Routing[], queueWaitMs: number): Promise<Routed> {
  const deliveries = batch.flatMap((routing) => routing.deliveries)
  const { rows } = await db.query<{ current_version: string; routed_event: EventId | null; queued_delivery: DeliveryId | null; needs_feed: DestinationId | null }>({
    name: 'route',
    text: `SELECT current_version, routed_event, queued_delivery, needs_feed
      FROM route_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13 * interval '1 millisecond')`,
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
      queueWaitMs,
    ],
  })
  if (Number(rows[0]?.current_version) !== configVersion) return { kind: 'config_changed' }
  return {
    kind: 'routed',
    eventIds: rows.flatMap((row) => row.routed_event ?? []),
    queued: rows.flatMap((row) => row.queued_delivery ?? []),
    toFeed: rows.flatMap((row) => row.needs_feed ?? []),
  }
}
