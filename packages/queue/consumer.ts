import { aborted } from 'node:util'
import { WaitingError, type Job } from 'bullmq'
import { openRedis, type QueueLog, type RedisLink } from './connection.ts'
import { createHintWorker, type HintWorker } from './hint-worker.ts'
import { jobSchemas, type HintOf, type QueueName } from './names.ts'
import { createSlots } from './slots.ts'
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
  /** Hands over no more, gives back what no handler has begun, and waits for the handlers. When `signal` aborts, theirs does, and what is left is let go. */
  stop(signal: AbortSignal): Promise<void>
  /** Whether jobs are being taken. */
  running(): boolean
  /** Handlers at work. */
  active(): number
  /** Hands over no more, without waiting for handlers; jobs already fetched wait in this process. */
  pauseIntake(): void
  resumeIntake(): void
}>

export type ConsumerParams<Q extends QueueName> = Readonly<{
  url: string
  queue: Q
  /** Handlers at once. */
  concurrency: number
  /** Called for each delivery, or for each batch of events. `signal` aborts when a stop has run out of time. */
  handle: (hint: HintOf[Q], signal: AbortSignal) => Promise<void>
  log: QueueLog
  /**
   * How long a job stays with a worker that gives no sign of life; another gets it after at most twice
   * this. Living workers renew. 30 s by default: only a hint is late, the sweeper waits for nobody.
   */
  lockMs?: number
}>

const lockMsDefault = 30_000
/** A worker whose loop ended (a pause that crossed a resume, a fault in BullMQ) is set going again this soon. */
const superviseMs = 1_000
/** After the last handler, for removing its job and leaving. A Redis that is away must not hold up a stop. */
const leaveMs = 1_000
const logWindowMs = 5_000

export function createConsumer<Q extends QueueName>(params: ConsumerParams<Q>): Consumer {
  const { log, queue } = params
  const force = new AbortController()
  let redis: RedisLink | undefined
  let worker: HintWorker | undefined
  let supervision: NodeJS.Timeout | undefined
  const slots = createSlots(params.concurrency)
  let paused = false
  let stopping: Promise<void> | undefined

  const logFault = throttle<unknown>({
    windowMs: logWindowMs,
    write: (error, suppressed) => log.warn({ event: 'queue.worker_failed', queue, error, suppressed }),
  })
  const logHandler = throttle<unknown>({
    windowMs: logWindowMs,
    write: (error, suppressed) => log.warn({ event: 'queue.handler_failed', queue, error, suppressed }),
  })
  const logUnreadable = throttle<string | undefined>({
    windowMs: logWindowMs,
    write: (jobId, suppressed) => log.warn({ event: 'queue.job_unreadable', queue, jobId, suppressed }),
  })

  /** The job ends when all its handlers have: until then a killed worker's job comes back (PROTOCOL T5). */
  async function take(job: Job, token: string | undefined): Promise<void> {
    const hints = readHints(queue, job.data)
    if (hints === undefined) {
      logUnreadable(job.id)
      return
    }
    const handling: Promise<void>[] = []
    for (const hint of hints) {
      if (!(await slots.take())) break
      handling.push(handleOne(hint))
    }
    const begunAll = handling.length === hints.length
    // Stopping: another worker gets it now, not when this one's handlers are through. What was begun is refused there.
    if (!begunAll) await job.moveToWait(token)
    await Promise.all(handling)
    if (!begunAll) throw new WaitingError()
  }

  async function handleOne(hint: HintOf[Q]): Promise<void> {
    try {
      await params.handle(hint, force.signal)
    } catch (error) {
      logHandler(error)
    } finally {
      slots.free()
    }
  }

  function begin(link: RedisLink): void {
    if (worker !== undefined || stopping !== undefined) return
    const created = createHintWorker({
      queue,
      take,
      client: link.client,
      concurrency: params.concurrency,
      lockMs: params.lockMs ?? lockMsDefault,
      onError: (error) => {
        if (link.up()) logFault(error) // else the link has written the line
      },
    })
    worker = created
    const keepGoing = () => {
      if (!paused && stopping === undefined && !created.isRunning()) void created.run()
    }
    keepGoing()
    supervision = setInterval(keepGoing, superviseMs)
  }

  /** Ends when nothing is being handled and BullMQ had its chance to leave properly. */
  async function leave(leaving: HintWorker): Promise<void> {
    let left = false
    const closed = leaving.close().then(() => {
      left = true
    })
    do {
      await slots.idle()
      await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, leaveMs).unref())])
    } while (!left && slots.taken() > 0)
  }

  return {
    name: `consumer ${queue}`,
    start() {
      if (redis !== undefined || stopping !== undefined) return Promise.resolve()
      const link = openRedis({ url: params.url, log, role: `consumer ${queue}`, kind: 'patient' })
      redis = link
      // Not before it is ready: a worker that has never seen its Redis can't be closed.
      link.client.once('ready', () => begin(link))
      return Promise.resolve()
    },
    stop(signal) {
      stopping ??= (async () => {
        clearInterval(supervision)
        slots.close()
        if (worker !== undefined) await Promise.race([leave(worker), aborted(signal, signal)])
        force.abort()
        worker?.letGo()
        redis?.close()
      })()
      return stopping
    },
    running: () => worker?.isRunning() === true && redis?.up() === true && !paused,
    active: slots.taken,
    pauseIntake() {
      paused = true
      slots.hold()
      void worker?.pause(true)
    },
    resumeIntake() {
      paused = false
      slots.letGo()
      if (stopping === undefined) void worker?.resume()
    },
  }
}

/** What a job holds, or undefined when it can't be read: written by a stranger, or damaged. */
function readHints<Q extends QueueName>(queue: Q, data: unknown): readonly HintOf[Q][] | undefined {
  const parsed = jobSchemas[queue].safeParse(data)
  if (!parsed.success) return undefined
  // The schema was chosen by the same name as the type.
  return ('deliveries' in parsed.data ? parsed.data.deliveries : [parsed.data]) as HintOf[Q][]
}
