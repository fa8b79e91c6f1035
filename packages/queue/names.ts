import { deliveryId, eventId } from '@tenterhook/schemas/ids'
import { z } from 'zod'

/**
 * What the queues are called and what their jobs hold. A job is a hint that a row in Postgres may be
 * due, never an order: ids only, no bodies, no secrets (DESIGN §3.4).
 */

/** In braces, so that on a Redis Cluster all keys of all queues share one hash slot: BullMQ's scripts need that. */
export const queuePrefix = '{tenterhook}'

export const queueNames = ['route', 'deliver'] as const
export type QueueName = (typeof queueNames)[number]

/** Event ids in one route job: bounds the transaction that a router opens for it. */
export const routeEventsPerJobMax = 200

export const jobSchemas = {
  route: z.object({ eventIds: z.array(eventId).min(1).max(routeEventsPerJobMax) }),
  deliver: z.object({ id: deliveryId, generation: z.int().nonnegative() }),
}

/** As a producer adds them. */
export type RouteJob = Readonly<{ eventIds: readonly string[] }>
export type DeliverJob = Readonly<{ id: string; generation: number }>

/** As a consumer gets them: read back, and checked. */
export type JobOf = { [Q in QueueName]: z.infer<(typeof jobSchemas)[Q]> }

/**
 * Id of a route job: its first event. Ingest adds an event once and the sweeper routes in place, so no
 * two batches begin alike; if two did, the second add is a no-op and the sweeper routes its events.
 */
export function routeJobId(job: RouteJob): string {
  return `r-${job.eventIds[0]}`
}

/**
 * Id of a deliver job. Without the generation, the add of a second admission is swallowed while the
 * first one's job is still completing (PROTOCOL §4). BullMQ forbids ':' in ids.
 */
export function deliverJobId(job: DeliverJob): string {
  return `d-${job.id}-${job.generation}`
}
