import { deliveryId, destinationId, eventId } from '@tenterhook/schemas/ids'
import type { Lane } from '@tenterhook/schemas/states'
import { z } from 'zod'

/**
 * What the queues are called and what their jobs hold. A job is a hint that a row in Postgres may be
 * due, never an order: ids only, no bodies, no secrets (DESIGN §3.4).
 */

/** In braces, so that on a Redis Cluster all keys of all queues share one hash slot: BullMQ's scripts need that. */
export const queuePrefix = '{tenterhook}'

export const queueNames = ['route', 'deliver', 'deliver-retry', 'deliver-quarantine'] as const
export type QueueName = (typeof queueNames)[number]
export type DeliverQueue = Exclude<QueueName, 'route'>

/** A queue for each lane: what waits in one is never ahead of what waits in another. */
export const deliverQueues = {
  normal: 'deliver',
  retry: 'deliver-retry',
  quarantine: 'deliver-quarantine',
} as const satisfies Record<Lane, DeliverQueue>

/** Event ids in one route job: bounds the transaction that a router opens for it. */
export const routeEventsPerJobMax = 200

/**
 * Deliveries in one deliver job. What a queue costs, it costs per job, most of it in waking processes up:
 * measured on two busy cores over producer, Redis and worker, jobs of one took 0.74 ms of CPU for each of
 * 1,000 deliveries a second, jobs of what comes within 5 ms 0.48 ms (with a backlog, producer and worker: 0.075
 * and 0.034 ms).
 * A worker holds up to this many hints per slot, so it stays small enough for several copies to share a
 * backlog.
 */
export const deliveriesPerJobMax = 32

/** The destination is there so that who takes the hint can tell, without asking Postgres, whether it has a socket for it. */
const delivery = z.object({ id: deliveryId, generation: z.int().nonnegative(), destinationId })
const deliverJob = z.object({ deliveries: z.array(delivery).min(1).max(deliveriesPerJobMax) })

export const jobSchemas = {
  route: z.object({ eventIds: z.array(eventId).min(1).max(routeEventsPerJobMax) }),
  deliver: deliverJob,
  'deliver-retry': deliverJob,
  'deliver-quarantine': deliverJob,
}

/** As a producer writes them. */
export type RouteJob = Readonly<{ eventIds: readonly string[] }>
export type DeliverJob = Readonly<{ deliveries: readonly DeliveryHint[] }>
export type DeliveryHint = Readonly<{ id: string; generation: number; destinationId: string }>
/** An admitted delivery, and the lane it was admitted to. */
export type LaneHint = DeliveryHint & Readonly<{ lane: Lane }>

/** What a consumer hands over, checked: a route job whole, a deliver job delivery by delivery. */
export type HintOf = { route: z.infer<typeof jobSchemas.route> } & Record<DeliverQueue, z.infer<typeof delivery>>

/**
 * Id of a route job: its first event. Ingest adds an event once and the sweeper routes in place, so no
 * two batches begin alike; if two did, the second add is a no-op and the sweeper routes its events.
 */
export function routeJobId(job: RouteJob): string {
  return `r-${job.eventIds[0]}`
}

/**
 * Id of a deliver job: its first delivery's admission, which happens once. Without the generation, the
 * add of a second admission is swallowed while the first one's job is still completing (PROTOCOL §4).
 * BullMQ forbids ':' in ids.
 */
export function deliverJobId(job: DeliverJob): string {
  const first = job.deliveries[0]
  return `d-${first?.id}-${first?.generation}`
}
