import { aborted } from 'node:util'

import { createBatcher } from './batcher.ts'
import { openQueue, openRedis, type QueueLog } from './connection.ts'
import { deliverJobId, routeEventsPerJobMax, routeJobId, type DeliverJob, type RouteJob } from './names.ts'
import { throttle } from './throttle.ts'

/**
 * Puts hints on the queues, best effort. Whatever is lost here (Redis away, buffer full, process
 * killed) is found by the sweepers through its wake-up time in Postgres (DESIGN §3.3, §3.6), so nothing
 * here throws, retries or waits long.
 */
export type Producer = Readonly<{
  /** Hints that these events are accepted. Returns at once. */
  addRoute(eventIds: readonly string[]): void
  /** True when Redis has them all. False within about a second, at once when Redis is known to be down. */
  addDeliveries(jobs: readonly DeliverJob[]): Promise<boolean>
  /** False when Redis is away or slow: the caller then sets an immediate wake-up time instead of the queue wait. */
  healthy(): boolean
  counts(): ProducerCounts
  stop(signal: AbortSignal): Promise<void>
}>

/** Since the start. `dropped`: never sent (Redis down, buffer full); `failed`: sent without a known outcome. */
export type ProducerCounts = Readonly<Record<'added' | 'dropped' | 'failed', { route: number; deliver: number }>>

/** Held while one bulk is on its way. 20,000 ids are a few MB and several seconds of full load. */
const heldMax = 20_000
const jobsPerBulkMax = 500
const eventsPerBulkMax = 5 * routeEventsPerJobMax
/** A bulk takes a millisecond or two. One that takes this long means a Redis that is stopped, swapping or fsyncing. */
const slowMs = 250
const logWindowMs = 5_000

/** attempts 1: Postgres decides about retries. Removed when finished: BullMQ's history is never truth. */
const jobOptions = { attempts: 1, removeOnComplete: true, removeOnFail: true }

export function createProducer(params: { url: string; log: QueueLog }): Producer {
  const { log } = params
  const redis = openRedis({ url: params.url, log, role: 'producer', kind: 'fail-fast' })
  const routeQueue = openQueue(redis, 'route')
  const deliverQueue = openQueue(redis, 'deliver')
  const counts = { added: { route: 0, deliver: 0 }, dropped: { route: 0, deliver: 0 }, failed: { route: 0, deliver: 0 } }
  const logFailure = throttle<Error>({
    windowMs: logWindowMs,
    write: (error, suppressed) => log.warn({ reason: error.message, suppressed }, 'adding to a queue failed'),
  })
  let slow = 0

  async function bulk(name: 'route' | 'deliver', size: number, add: () => Promise<unknown>): Promise<boolean> {
    if (!redis.up()) {
      counts.dropped[name] += size
      return false
    }
    let late = false
    const timer = setTimeout(() => {
      late = true
      slow += 1
    }, slowMs)
    try {
      await add()
      counts.added[name] += size
      return true
    } catch (error) {
      counts.failed[name] += size
      logFailure(error instanceof Error ? error : new Error(String(error)))
      return false
    } finally {
      clearTimeout(timer)
      if (late) slow -= 1
    }
  }

  const routes = createBatcher<string>({
    heldMax,
    batchMax: eventsPerBulkMax,
    send: (eventIds) => {
      const jobs: RouteJob[] = []
      for (let i = 0; i < eventIds.length; i += routeEventsPerJobMax) jobs.push({ eventIds: eventIds.slice(i, i + routeEventsPerJobMax) })
      return bulk('route', eventIds.length, () =>
        routeQueue.addBulk(jobs.map((data) => ({ name: 'r', data, opts: { ...jobOptions, jobId: routeJobId(data) } }))),
      )
    },
  })
  const deliveries = createBatcher<DeliverJob>({
    heldMax,
    batchMax: jobsPerBulkMax,
    send: (jobs) =>
      bulk('deliver', jobs.length, () =>
        deliverQueue.addBulk(jobs.map((data) => ({ name: 'd', data, opts: { ...jobOptions, jobId: deliverJobId(data) } }))),
      ),
  })

  let stopping: Promise<void> | undefined
  const healthy = () => slow === 0 && redis.up() && stopping === undefined

  return {
    addRoute(eventIds) {
      if (!healthy() || routes.held() + eventIds.length > heldMax) counts.dropped.route += eventIds.length
      else void routes.push(eventIds)
    },
    addDeliveries(jobs) {
      if (healthy() && deliveries.held() + jobs.length <= heldMax) return deliveries.push(jobs)
      counts.dropped.deliver += jobs.length
      return Promise.resolve(jobs.length === 0)
    },
    healthy,
    counts: () => structuredClone(counts),
    stop(signal) {
      stopping ??= (async () => {
        await Promise.race([Promise.all([routes.drained(), deliveries.drained()]), aborted(signal, signal)])
        redis.close()
      })()
      return stopping
    },
  }
}
