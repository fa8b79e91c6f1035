import { aborted } from 'node:util'
import { lanes } from '@tenterhook/schemas/states'
import type { JobsOptions } from 'bullmq'
import { createBatcher, type Batcher } from './batcher.ts'
import { openQueue, openRedis, type QueueLog } from './connection.ts'
import { watchMemory } from './memory.ts'
import {
  deliverJobId,
  deliverQueues,
  deliveriesPerJobMax,
  queueNames,
  routeEventsPerJobMax,
  routeJobId,
  type DeliveryHint,
  type DeliverQueue,
  type LaneHint,
  type QueueName,
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
  /** Each to the queue of its lane. True when Redis has all of them; false within about a second, at once while it is known not to work. */
  addDeliveries(deliveries: readonly LaneHint[]): Promise<boolean>
  /** False while Redis is down, slow, refusing or nearly full: the caller then gives its rows an immediate wake-up time instead of the queue wait. */
  healthy(): boolean
  counts(): ProducerCounts
  /** Takes no more; sends what is held until `signal` aborts. */
  stop(signal: AbortSignal): Promise<void>
}>

/** Event and delivery ids since the start. `dropped` never left this process; `failed` ended without Redis saying yes. */
export type ProducerCounts = Readonly<Record<'added' | 'dropped' | 'failed', Readonly<Record<QueueName, number>>>>

/**
 * The shortest time from one batch to the next. A job costs the same CPU whatever it holds, mostly in
 * waking processes up; 5 ms make one job of what would be five at 1,000 a second, and nobody waits at
 * less than 200. Eight entries within 5 ms are 1,600 a second: from there on what a longer interval saves is worth more
 * than what it makes wait.
 */
const batchIntervalMs = (entries: number) => (entries < 8 ? 5 : 12)
/** Ids held per queue while a batch is on its way: a few MB, several seconds of full load. */
const heldMax = 20_000
const deliveriesPerBatchMax = 1_000
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
  const memory = watchMemory({ link: redis, log: params.log })
  const queues = byQueue((name) => openQueue(redis, name))
  const counts = { added: byQueue(() => 0), dropped: byQueue(() => 0), failed: byQueue(() => 0) }
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
   * Packs hints into jobs of at most `perJobMax` and sends them in one turn of the event loop: ioredis
   * writes them back to back, which costs no more than `addBulk` and, unlike it, tells which ones failed.
   * Answers for each hint.
   */
  async function send<T>(
    queue: QueueName,
    hints: readonly T[],
    perJobMax: number,
    toJob: (hints: readonly T[]) => { id: string; data: object },
  ): Promise<boolean[]> {
    if (!redis.up()) {
      counts.dropped[queue] += hints.length
      return []
    }
    let slow = false
    const timer = setTimeout(() => {
      slow = true
      slowBatches += 1
    }, slowMs)
    const jobs = Array.from({ length: Math.ceil(hints.length / perJobMax) }, (_, i) =>
      hints.slice(i * perJobMax, (i + 1) * perJobMax),
    )
    const added = await Promise.all(jobs.map((each) => addJob(queue, each.length, toJob(each))))
    clearTimeout(timer)
    if (slow) slowBatches -= 1
    return hints.map((_, i) => added[Math.floor(i / perJobMax)] === true)
  }

  async function addJob(queue: QueueName, hints: number, job: { id: string; data: object }): Promise<boolean> {
    try {
      await queues[queue].add(queue, job.data, { ...jobOptions, jobId: job.id })
      counts.added[queue] += hints
      return true
    } catch (error) {
      counts.failed[queue] += hints
      rest()
      logFailure({ queue, error })
      return false
    }
  }

  const deliverBatcher = (queue: DeliverQueue) =>
    createBatcher<DeliveryHint>({
      heldMax,
      batchMax: deliveriesPerBatchMax,
      intervalMs: batchIntervalMs,
      send: (hints) =>
        send(queue, hints, deliveriesPerJobMax, (some) => {
          // Field by field: a caller's row may hold more than Redis may see.
          const deliveries = some.map(({ id, generation, destinationId }) => ({ id, generation, destinationId }))
          return { id: deliverJobId({ deliveries }), data: { deliveries } }
        }),
    })
  const batchers = {
    route: createBatcher<string>({
      heldMax,
      batchMax: eventsPerBatchMax,
      intervalMs: batchIntervalMs,
      send: (eventIds) =>
        send('route', eventIds, routeEventsPerJobMax, (some) => ({
          id: routeJobId({ eventIds: some }),
          data: { eventIds: some },
        })),
    }),
    deliver: deliverBatcher('deliver'),
    'deliver-retry': deliverBatcher('deliver-retry'),
    'deliver-quarantine': deliverBatcher('deliver-quarantine'),
  }

  const healthy = () => redis.up() && memory.hasRoom() && slowBatches === 0 && !resting && stopping === undefined

  /** Takes what fits; the rest is the sweeper's. */
  async function add<T>(queue: QueueName, batcher: Batcher<T>, entries: readonly T[]): Promise<boolean> {
    const taken = healthy() ? entries.slice(0, heldMax - batcher.held()) : []
    counts.dropped[queue] += entries.length - taken.length
    return (await batcher.push(taken)) && taken.length === entries.length
  }

  return {
    addRoute: (eventIds) => void add('route', batchers.route, eventIds),
    async addDeliveries(deliveries) {
      const added = await Promise.all(
        lanes.map((lane) => {
          const queue = deliverQueues[lane]
          return add(
            queue,
            batchers[queue],
            deliveries.filter((one) => one.lane === lane),
          )
        }),
      )
      return added.every(Boolean)
    },
    healthy,
    counts: () => structuredClone(counts),
    stop(signal) {
      stopping ??= (async () => {
        const drained = Promise.all(queueNames.map((queue) => batchers[queue].drained()))
        await Promise.race([drained, aborted(signal, signal)])
        memory.stop()
        redis.close()
      })()
      return stopping
    },
  }
}

function byQueue<T>(make: (name: QueueName) => T): Record<QueueName, T> {
  return {
    route: make('route'),
    deliver: make('deliver'),
    'deliver-retry': make('deliver-retry'),
    'deliver-quarantine': make('deliver-quarantine'),
  }
}
