import type { Clock } from './clock.ts'
import type { Process } from './process.ts'
import { timing } from './world.ts'

/**
 * A Redis with two queues, as far as the protocol leans on it: jobs by id, where adding one that exists is a no-op; a
 * job that was taken belongs to its worker until it completes; a dead worker's job comes back. It may be down, lose
 * everything, or go back to any earlier moment, in which case what was taken then is waiting now.
 */
export interface Redis {
  up: boolean
  /** No job is handed out: a flag that only a rewind to an old dump brings. */
  isPaused: boolean
  runId: number
  /** The epoch's key, null when it was lost. */
  key: number | null
  /** What a flawed variant keeps here instead of in Postgres. */
  readonly numbers: Map<string, number>
  readonly texts: Map<string, string>
  add(job: { id: string; queue: QueueName; hints: readonly Hint[] }): 'added' | 'swallowed' | 'failed'
  hasWork(queue: QueueName): boolean
  take(queue: QueueName, worker: Process): Job | undefined
  /** Of no effect when the job is another's by now. */
  complete(job: Job): void
  /** Jobs of workers that are dead: BullMQ finds them stalled. */
  orphans(): readonly Job[]
  active(): readonly Job[]
  /** Neither finished nor in a worker's hands. */
  waiting(): readonly Job[]
  /** Back to the queue, from a dead worker or a living one. */
  putBack(job: Job): void
  remove(job: Job): void
  wipe(): void
  /** Moments to go back to. */
  moments(): number
  rewind(moment: number): void
}

export type QueueName = 'route' | 'deliver'

/** An event (generation 0) or an admission of a delivery. */
export interface Hint {
  readonly id: string
  readonly generation: number
}

export interface Job {
  readonly id: string
  readonly queue: QueueName
  readonly hints: readonly Hint[]
  readonly state: 'waiting' | 'active' | 'finished'
  readonly worker: Process | undefined
  readonly workerLife: number
  readonly lockedUntilMs: number
  /** The queue is that slow. */
  readonly takenFromMs: number
}

interface Moment {
  readonly jobs: readonly Job[]
  readonly key: number | null
}

export function createRedis(params: {
  clock: Clock
  latencyMs: number
  keepsMoments: boolean
  keepsFinished: boolean
}): Redis {
  let jobs: readonly Job[] = []
  const past: Moment[] = []

  function become(next: readonly Job[]): void {
    if (params.keepsMoments) past.push({ jobs, key: redis.key })
    jobs = next
  }
  const swap = (job: Job, ...by: Job[]) => become(jobs.flatMap((other) => (other === job ? by : [other])))
  const isWaiting = (job: Job) => job.state === 'waiting' && job.takenFromMs <= params.clock.nowMs

  const redis: Redis = {
    up: true,
    isPaused: false,
    runId: 1,
    key: 1,
    numbers: new Map(),
    texts: new Map(),
    add({ id, queue, hints }) {
      if (!redis.up) return 'failed'
      if (jobs.some((job) => job.id === id)) return 'swallowed'
      const takenFromMs = params.clock.nowMs + params.latencyMs
      params.clock.alarm(takenFromMs)
      become([
        ...jobs,
        { id, queue, hints, state: 'waiting', worker: undefined, workerLife: 0, lockedUntilMs: 0, takenFromMs },
      ])
      return 'added'
    },
    hasWork: (queue) => redis.up && !redis.isPaused && jobs.some((job) => job.queue === queue && isWaiting(job)),
    take(queue, worker) {
      const job = jobs.find((each) => each.queue === queue && isWaiting(each))
      if (job === undefined || !redis.up) return undefined
      const lockedUntilMs = params.clock.nowMs + timing.jobLockMs
      const taken: Job = { ...job, state: 'active', worker, workerLife: worker.life, lockedUntilMs }
      params.clock.alarm(lockedUntilMs)
      swap(job, taken)
      return taken
    },
    complete(job) {
      if (!jobs.includes(job)) return
      // Its worker could not say so, and renews its lock no more.
      if (!redis.up) swap(job, { ...job, workerLife: -1 })
      else if (params.keepsFinished) swap(job, { ...job, state: 'finished' })
      else swap(job)
    },
    orphans: () =>
      redis.up
        ? jobs.filter(
            (job) =>
              job.state === 'active' && job.worker?.life !== job.workerLife && job.lockedUntilMs <= params.clock.nowMs,
          )
        : [],
    active: () => jobs.filter((job) => job.state === 'active'),
    waiting: () => jobs.filter((job) => job.state === 'waiting'),
    putBack: (job) => swap(job, { ...job, state: 'waiting', worker: undefined }),
    remove: (job) => swap(job),
    wipe() {
      become([])
      redis.key = null
      redis.numbers.clear()
      redis.texts.clear()
    },
    moments: () => past.length,
    rewind(moment) {
      const then = past[moment]
      if (then === undefined) return
      become(then.jobs.map((job) => (job.state === 'active' ? { ...job, state: 'waiting', worker: undefined } : job)))
      redis.key = then.key
      redis.runId += 1
    },
  }
  return redis
}
