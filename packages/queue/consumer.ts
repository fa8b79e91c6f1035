import { aborted } from 'node:util'

import { Worker, type Job, type JobJson } from 'bullmq'

import { openRedis, type QueueLog, type RedisLink } from './connection.ts'
import { jobSchemas, queuePrefix, type JobOf, type QueueName } from './names.ts'
import { throttle } from './throttle.ts'

/**
 * Takes hints off a queue and hands them over. It outlives any Redis: down, wiped, rewound to an old
 * dump, full. It never judges: a handler that throws is logged and its job is removed, because the row
 * in Postgres knows when to wake up again; a job that can't be read is dropped for the same reason.
 */
export type Consumer = Readonly<{
  name: string
  /** Resolves at once; taking begins when Redis is there. */
  start(): Promise<void>
  /** Takes no more, waits for the handlers; when `signal` aborts, aborts theirs and lets go of what is left. */
  stop(signal: AbortSignal): Promise<void>
  running(): boolean
  /** Handlers at work. */
  active(): number
  /** Stops taking without waiting for handlers; what is on its way from Redis is still handed over. */
  pauseIntake(): void
  resumeIntake(): void
}>

export type ConsumerParams<Q extends QueueName> = Readonly<{
  url: string
  queue: Q
  concurrency: number
  /** `signal` aborts when a stop has run out of time. */
  handle: (job: JobOf[Q], signal: AbortSignal) => Promise<void>
  log: QueueLog
  /** How long a dead worker's job waits for another one, twice at most; renewed every quarter of it. 30 s unless a test can't wait. */
  lockMs?: number
}>

const lockMsDefault = 30_000
/** Length of one blocking read while idle; also how soon a hint without its marker is found. */
const drainDelaySeconds = 5
/** Wait after a fetch that Redis refused (out of memory, read-only, loading): without it BullMQ asks again at once, for ever. */
const refusedFetchWaitMs = 250
const retryDelayMs = 1_000
const logWindowMs = 5_000

export function createConsumer<Q extends QueueName>(params: ConsumerParams<Q>): Consumer {
  const { log, queue } = params
  const schema = jobSchemas[queue]
  const force = new AbortController()
  let redis: RedisLink | undefined
  let worker: HintWorker | undefined
  let active = 0
  let paused = false
  let stopping: Promise<void> | undefined

  const logWorkerError = throttle<Error>({
    windowMs: logWindowMs,
    write: (error, suppressed) => log.warn({ queue, reason: error.message, suppressed }, 'queue worker error'),
  })
  const logHandlerError = throttle<unknown>({
    windowMs: logWindowMs,
    write: (error, suppressed) => log.warn({ queue, err: error, suppressed }, 'handling a job failed'),
  })
  const logMalformed = throttle<string>({
    windowMs: logWindowMs,
    write: (jobId, suppressed) => log.warn({ queue, jobId, suppressed }, 'dropped a job that can not be read'),
  })

  async function take(job: Job): Promise<void> {
    const parsed = schema.safeParse(job.data)
    if (!parsed.success) {
      logMalformed(job.id ?? '')
      return
    }
    active += 1
    try {
      await params.handle(parsed.data as JobOf[Q], force.signal)
    } catch (error) {
      logHandlerError(error)
    } finally {
      active -= 1
    }
  }

  function open(link: RedisLink): void {
    const lockMs = params.lockMs ?? lockMsDefault
    worker = new HintWorker(queue, take, {
      connection: link.client,
      prefix: queuePrefix,
      autorun: false,
      concurrency: params.concurrency,
      lockDuration: lockMs,
      stalledInterval: lockMs,
      // A job of a killed worker comes back as often as it takes; lost leases are counted in Postgres.
      maxStalledCount: Number.MAX_SAFE_INTEGER,
      removeOnComplete: { count: 0 },
      removeOnFail: { count: 0 },
      drainDelay: drainDelaySeconds,
      runRetryDelay: retryDelayMs,
    })
    worker.on('error', logWorkerError)
    run(worker)
  }

  function run(current: HintWorker): void {
    if (paused || stopping !== undefined) return
    void current.run().catch(logWorkerError)
  }

  return {
    name: `consumer ${queue}`,
    start() {
      if (redis !== undefined || stopping !== undefined) return Promise.resolve()
      const link = openRedis({ url: params.url, log, role: `consumer ${queue}`, kind: 'patient' })
      redis = link
      // Not before: a worker that has never seen its Redis can't be closed.
      link.client.once('ready', () => {
        if (stopping === undefined) open(link)
      })
      return Promise.resolve()
    },
    stop(signal) {
      stopping ??= (async () => {
        const closed = worker?.close() ?? Promise.resolve()
        await Promise.race([closed, aborted(signal, signal)])
        force.abort()
        // Frees a close that still waits for a reply.
        void worker?.getBackend().close(true).catch(() => {})
        redis?.close()
      })()
      return stopping
    },
    running: () => worker?.isRunning() === true && redis?.up() === true,
    active: () => active,
    pauseIntake() {
      paused = true
      void worker?.pause(true)
    },
    resumeIntake() {
      paused = false
      void worker?.resume()
    },
  }
}

/** BullMQ's worker with two faults mended that a damaged or full Redis shows. */
class HintWorker extends Worker {
  protected override async moveToActive(token: string, name?: string): Promise<Job> {
    try {
      return await super.moveToActive(token, name)
    } catch (error) {
      await this.delay(refusedFetchWaitMs)
      throw error
    }
  }

  /** Data that isn't JSON would throw here, for ever, each time the job's lock runs out. As `null` it reaches the schema and is dropped. */
  protected override createJob(data: JobJson, jobId: string): Job {
    try {
      return super.createJob(data, jobId)
    } catch {
      return super.createJob({ ...data, data: 'null' }, jobId)
    }
  }
}
