import { Worker, type Job, type JobJson } from 'bullmq'
import type { Redis } from 'ioredis'
import { queuePrefix, type QueueName } from './names.ts'

/** Length of one blocking read while the queue is empty. */
const drainDelaySeconds = 5
/** Pause after a fetch that Redis refused (out of memory, read-only, loading): BullMQ would ask again at once, for ever. */
const refusedFetchWaitMs = 250
/** Pause before a command that found no connection is sent again. */
const lostCommandWaitMs = 1_000

/** A worker that met a rate limit asks again this soon. We set none: one that is there came with an old dump and is cleared. */
const rateLimitWaitMsMax = 2_000

/** BullMQ's worker, with what a damaged, full or vanished Redis shows to be missing. Its `run` never rejects. */
export class HintWorker extends Worker {
  override async run(): Promise<void> {
    try {
      await super.run()
    } catch (error) {
      this.emit('error', error instanceof Error ? error : new Error(String(error)))
    }
  }

  protected override async moveToActive(token: string, name?: string): Promise<Job> {
    try {
      return await super.moveToActive(token, name)
    } catch (error) {
      await this.delay(refusedFetchWaitMs)
      throw error
    }
  }

  /** Data that isn't JSON would throw here each time the job's lock runs out, for ever. As `null` it gets as far as the schema, which drops it. */
  protected override createJob(data: JobJson, jobId: string): Job {
    try {
      return super.createJob(data, jobId)
    } catch {
      return super.createJob({ ...data, data: 'null' }, jobId)
    }
  }

  /** Ends timers and connections now. `close` does so too, but after replies that may never come; harmless when it is through. */
  letGo(): void {
    void this.pause(true) // ends the timer of the stalled check
    void this.lockManager.close()
    this.backend.close(true).catch(() => {}) // a connection that is gone is what is wanted
  }
}

export function createHintWorker(params: {
  queue: QueueName
  take: (job: Job, token: string | undefined) => Promise<void>
  client: Redis
  concurrency: number
  lockMs: number
  onError: (error: Error) => void
}): HintWorker {
  const worker = new HintWorker(params.queue, params.take, {
    connection: params.client,
    prefix: queuePrefix,
    autorun: false,
    concurrency: params.concurrency,
    lockDuration: params.lockMs,
    stalledInterval: params.lockMs,
    // A job whose worker was killed comes back as often as it takes: lost leases are counted in Postgres,
    // and a job that BullMQ fails for good is a delivery that was never sent (PROTOCOL §4).
    maxStalledCount: Number.MAX_SAFE_INTEGER,
    removeOnComplete: { count: 0 },
    removeOnFail: { count: 0 },
    drainDelay: drainDelaySeconds,
    runRetryDelay: lostCommandWaitMs,
    maximumRateLimitDelay: rateLimitWaitMsMax,
    skipVersionCheck: true, // checkRedis does it, without writing to the console
  })
  worker.on('error', params.onError)
  return worker
}
