import type { ConnectionSpec } from '@tenterhook/schemas/connection'
import { durationMs } from '@tenterhook/schemas/duration'
import type { ConnectionId, DestinationId } from '@tenterhook/schemas/ids'
import { orderKeyOf } from './order-key.ts'
import type { Subject } from './subject.ts'

/** What a connection says of a delivery over it, as it stands when that is made: by routing, or by a replay. */
export interface DeliveryTerms {
  connectionId: ConnectionId
  connectionVersion: number
  destinationId: DestinationId
  /** Null: it is delivered unordered. */
  orderKey: string | null
  delayMs: number
  /** From when it is made; its delay is no part of the time that its retries have. */
  maxAgeMs: number
}

export function deliveryTerms(
  connection: { id: ConnectionId; version: number; destinationId: DestinationId; spec: ConnectionSpec },
  subject: Subject,
): DeliveryTerms {
  const { order, delay, retry } = connection.spec
  const delayMs = durationMs(delay)
  return {
    connectionId: connection.id,
    connectionVersion: connection.version,
    destinationId: connection.destinationId,
    orderKey: order ? orderKeyOf(subject, order.by) : null,
    delayMs,
    maxAgeMs: delayMs + durationMs(retry.maxAge),
  }
}
