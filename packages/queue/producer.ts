import { aborted } from 'node:util'
import type { JobsOptions } from 'bullmq'
import { createBatcher, type Batcher } from './batcher.ts'
import { openQueue, openRedis, type QueueLog } from './connection.ts'
import {
  deliverJobId,
  routeEventsPerJobMax,
  routeJobId,
  type DeliverJob,
  type QueueName,
  type RouteJob,
} from './names.ts'
import { throttle } from './throttle.ts'

/**
 * Puts hints on the queues, best effort. What is lost here (Redis away, no room, process killed) is
 * found by the sweepers through its wake-up time in Postgres (DESIGN §3.3, §3.6), so nothing here
 * throws, tries again or waits long.
 */
export type Producer = Readonly<{
  /** Hints that these events are accepted. Returns at once. */
  addRoute(eventIds: readonly string[]): void
  /** True when Redis has all of them. False within about a second, at once while it is known not to work. */
  addDeliveries(jobs: readonly DeliverJob[]): Promise<boolean>
  /** False while Redis is down, slow or refusing: the caller then gives its rows an immediate wake-up time instead of the queue wait. */
  healthy(): boolean
  counts(): ProducerCounts
  /** Takes no more; sends what is held until `signal` aborts. */
  stop(signal: AbortSignal): Promise<void>
}>

/** Event and delivery ids since the start. `dropped` never left this process; `failed` ended without Redis saying yes. */
export type ProducerCounts = Readonly<Record<'added' | 'dropped' | 'failed', Readonly<Record<QueueName, number>>>>

/** Ids held per queue while a batch is on its way: a few MB, several seconds of full load. */
const heldMax = 20_000
const deliveriesPerBatchMax = 500
const eventsPerBatchMax = 10 * routeEventsPerJobMax
/** A batch takes a millisecond or two. One that takes this long means a Redis that is stopped, swapping or waiting for its disk. */
const slowMs = 250
/** After a refusal (out of memory, read-only, connection lost) nothing is tried for this long. */
const restMs = 500
const logWindowMs = 5_000

/** One attempt, because Postgres decides about retries; removed when finished, because BullMQ's history is never truth (PROTOCOL T3). */
const jobOptions = { attempts: 1, removeOnComplete: true, removeOnFail: true } satisfies JobsOptions

export function createProducer(params: { url: string; log: QueueLog }): Producer {
  const redis = openRedis({ url: params.url, log: params.log, role: 'producer', kind: 'fail-fast' })
  const queues = { route: openQueue(redis, 'route'), deliver: openQueue(redis, 'deliver') }
  const counts = {
    added: { route: 0, deliver: 0 },
    dropped: { route: 0, deliver: 0 },
    failed: { route: 0, deliver: 0 },
  }
  let slowBatches = 0
  let resting = false
  let stopping: Promise<void> | undefined

  function rest(): void {
    if (resting) return
    resting = true
    setTimeout(() => {
      resting = false
    }, restMs).unref()
  }

  const logFailure = throttle<{ queue: QueueName; error: unknown }>({
    windowMs: logWindowMs,
    write: (failure, suppressed) => params.log.warn({ event: 'queue.add_failed', ...failure, suppressed }),
  })

  /**
   * Sends jobs in one turn of the event loop: ioredis writes them back to back, which costs no more than
   * `addBulk` and, unlike it, tells which ones failed. `ids`: what the job stands for in the counts.
   */
  async function send<J extends object>(
    queue: QueueName,
    jobs: readonly { id: string; data: J; ids: number }[],
  ): Promise<boolean[]> {
    if (!redis.up()) {
      for (const { ids } of jobs) counts.dropped[queue] += ids
      return jobs.map(() => false)
    }
    let slow = false
    const timer = setTimeout(() => {
      slow = true
      slowBatches += 1
    }, slowMs)
    const results = await Promise.allSettled(
      jobs.map(({ id, data }) => queues[queue].add(queue, data, { ...jobOptions, jobId: id })),
    )
    clearTimeout(timer)
    if (slow) slowBatches -= 1
    return results.map((result, i) => {
      const ids = jobs[i]?.ids ?? 0
      if (result.status === 'fulfilled') {
        counts.added[queue] += ids
        return true
      }
      counts.failed[queue] += ids
      rest()
      logFailure({ queue, error: result.reason })
      return false
    })
  }

  async function sendRoutes(eventIds: readonly string[]): Promise<boolean[]> {
    const jobs: { id: string; data: RouteJob; ids: number }[] = []
    for (let i = 0; i < eventIds.length; i += routeEventsPerJobMax) {
      const data = { eventIds: eventIds.slice(i, i + routeEventsPerJobMax) }
      jobs.push({ id: routeJobId(data), data, ids: data.eventIds.length })
    }
    const sent = await send('route', jobs)
    return jobs.flatMap(({ ids }, i) => Array.from({ length: ids }, () => sent[i] === true))
  }

  const batchers = {
    route: createBatcher<string>({ heldMax, batchMax: eventsPerBatchMax, send: sendRoutes }),
    deliver: createBatcher<DeliverJob>({
      heldMax,
      batchMax: deliveriesPerBatchMax,
      send: (jobs) =>
        send(
          'deliver',
          jobs.map(({ id, generation }) => ({
            id: deliverJobId({ id, generation }),
            data: { id, generation },
            ids: 1,
          })),
        ),
    }),
  }

  const healthy = () => redis.up() && slowBatches === 0 && !resting && stopping === undefined

  function add<T>(queue: QueueName, batcher: Batcher<T>, entries: readonly T[]): Promise<boolean> {
    if (healthy() && batcher.held() + entries.length <= heldMax) return batcher.push(entries)
    counts.dropped[queue] += entries.length
    return Promise.resolve(false)
  }

  return {
    addRoute: (eventIds) => void add('route', batchers.route, eventIds),
    addDeliveries: (jobs) => add('deliver', batchers.deliver, jobs),
    healthy,
    counts: () => structuredClone(counts),
    stop(signal) {
      stopping ??= (async () => {
        const drained = Promise.all([batchers.route.drained(), batchers.deliver.drained()])
        await Promise.race([drained, aborted(signal, signal)])
        redis.close()
      })()
      return stopping
    },
  }
}
