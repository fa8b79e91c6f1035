import type { Checks } from './checks.ts'
import type { Clock } from './clock.ts'
import type { Flaws } from './controls.ts'
import type { Delay } from './faults.ts'
import type { History } from './history.ts'
import type { Moment } from './moments.ts'
import type { Postgres } from './postgres.ts'
import type { Coroutine, Machine, Process } from './process.ts'
import type { Redis } from './redis.ts'
import type { Answer, Scenario } from './scenario.ts'

/** All there is in one run. */
export interface World {
  readonly plan: Scenario
  /** Rules left out: none, but in a negative control. */
  readonly flaws: Flaws
  readonly machine: Machine
  readonly clock: Clock
  readonly postgres: Postgres
  readonly redis: Redis
  /** The next answer of the destinations: first as their script says, then always the same. */
  answer(): Answer
  readonly history: History
  readonly checks: Checks
  /** The processes that faults may strike. */
  readonly services: readonly Process[]
  /** Steps taken. */
  step: number
  /** What the last step passed, and whose step it was: where faults and delays strike. */
  passed: Moment
  readonly stepped: Coroutine | undefined
  /** What it asked of Postgres goes on, or `ends` without a commit. */
  kill(process: Process, ends: boolean): void
  /** After rows went back. */
  onCrash(): void
  newToken(): string
  newNumber(): number
  /** Does it when the fault is over; never, when all faults are over before. */
  whenOver(fault: Delay, action: () => void): void
  /** A line of the trace; undefined while nobody reads it. */
  readonly say: ((line: string) => void) | undefined
}

/** The product's waits, shortened where only their proportion matters: looping every second would make thousands of idle steps. */
export const timing = {
  routeWaitMs: 5_000,
  queueWaitMs: 10_000,
  slowQueueLatencyMs: 15_000,
  attemptTimeoutMs: 15_000,
  recordMs: 2_000,
  leaseMs: 30_000,
  retryDelayMs: 5_000,
  closedMs: 5_000,
  /** How long a dead worker's job stays its own. */
  jobLockMs: 7_500,
  /** How long an admission waits for a socket. */
  parkedMs: 4_000,
  loopEveryMs: 5_000,
} as const

/** Failures that end a delivery. */
export const failuresMax = 2
/** Lost leases that end it: more than the faults of a run can cost. */
export const lostLeasesMax = 20
