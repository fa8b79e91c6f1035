import fc from 'fast-check'
import { faultKinds, type Delay, type Fault } from './faults.ts'
import { moments, type Moment } from './moments.ts'

/** One run, whole: who sends what, how the destinations answer, what breaks when, and who steps next. */
export interface Scenario {
  /** In the order of sending. */
  readonly requests: readonly RequestPlan[]
  /** One by one, each after the answer to the one before: then the order of acceptance is known. */
  readonly sent: 'one by one' | 'as they come' | 'at once'
  readonly connections: readonly ConnectionPlan[]
  /** Of each destination. */
  readonly window: number
  /** What a destination answers first; after that it answers `finally`. */
  readonly answers: readonly Answer[]
  readonly finally: 'ok' | 'failed'
  readonly operator: OperatorPlan
  /** Every job waits longer in Redis than the sweep lets it. */
  readonly slowQueue: boolean
  readonly faults: readonly Fault[]
  readonly delays: readonly Delay[]
  /** So many steps with faults, each chosen at random: who takes it, or whether time passes. */
  readonly steps: number
  readonly seed: number
}

export interface RequestPlan {
  /** For dedupe; null: none. */
  readonly key: 'k1' | 'k2' | null
  readonly orderKey: 'a' | 'b'
  /** Which copy of ingest gets it first. */
  readonly ingest: number
  /** Postgres refuses its row. */
  readonly unstorable: boolean
}

export interface ConnectionPlan {
  readonly id: string
  readonly destination: string
  readonly ordered: boolean
}

/** `slow` is a failure that closes the destination for a while (429). */
export type Answer = 'ok' | 'failed' | 'slow'

export interface OperatorPlan {
  readonly does: 'nothing' | 'cancel' | 'pause' | 'replay'
  /** Once somebody has passed it. */
  readonly moment: Moment
  /** Which of the deliveries there are. */
  readonly target: number
}

const stepsMax = 600
const faultsMax = 4

const request: fc.Arbitrary<RequestPlan> = fc.record({
  key: fc.constantFrom(null, null, null, 'k1' as const, 'k2' as const),
  orderKey: fc.constantFrom('a' as const, 'a' as const, 'a' as const, 'b' as const),
  ingest: fc.nat(1),
  unstorable: fc.nat(15).map((n) => n === 15),
})

const connections: fc.Arbitrary<readonly ConnectionPlan[]> = fc.constantFrom(
  [{ id: 'c1', destination: 'd1', ordered: false }],
  [{ id: 'c1', destination: 'd1', ordered: true }],
  [
    { id: 'c1', destination: 'd1', ordered: false },
    { id: 'c2', destination: 'd1', ordered: true },
  ],
  [
    { id: 'c1', destination: 'd1', ordered: true },
    { id: 'c2', destination: 'd2', ordered: false },
  ],
)

const moment: fc.Arbitrary<Moment> = fc.oneof(
  { weight: 1, arbitrary: fc.constant('anywhere' as const) },
  { weight: 2, arbitrary: fc.constantFrom(...moments) },
  {
    weight: 4,
    arbitrary: fc.constantFrom(
      'dispatcher.after_lease',
      'dispatcher.before_send',
      'dispatcher.after_send',
      'dispatcher.after_result',
      'router.after_claim',
      'router.after_route',
      'operator.acknowledged',
      'T1',
      'T2',
      'T3',
      'T6',
    ),
  },
)

const delay = {
  at: fc.oneof(fc.constant(0), fc.nat(stepsMax >> 2)),
  moment,
  lasts: fc.integer({ min: 1, max: 400 }),
  until: moment,
}

const fault: fc.Arbitrary<Fault> = fc.record({
  ...delay,
  kind: fc.constantFrom(...faultKinds, 'kill', 'pause', 'postgres crash'),
  pick: fc.nat(255),
  isSlow: fc.boolean(),
})

/** Unbiased: fast-check's liking for extremes would starve most coroutines. */
export const scenario: fc.Arbitrary<Scenario> = fc.noBias(
  fc.record({
    requests: fc.array(request, { minLength: 1, maxLength: 4, size: 'max' }),
    sent: fc.constantFrom('one by one', 'one by one', 'as they come', 'at once'),
    connections,
    window: fc.integer({ min: 1, max: 2 }),
    answers: fc.array(fc.constantFrom<Answer>('ok', 'failed', 'failed', 'slow'), { maxLength: 3, size: 'max' }),
    finally: fc.constantFrom('ok', 'ok', 'ok', 'failed'),
    operator: fc.record({
      does: fc.constantFrom('nothing', 'nothing', 'cancel', 'pause', 'replay'),
      moment,
      target: fc.nat(3),
    }),
    slowQueue: fc.nat(7).map((n) => n === 7),
    faults: fc.array(fault, { maxLength: faultsMax, size: 'max' }),
    delays: fc.array(fc.record(delay), { maxLength: faultsMax, size: 'max' }),
    steps: fc.nat(stepsMax),
    seed: fc.noShrink(fc.nat()),
  }),
)

export const isHealthy = (plan: Scenario) => plan.answers.length === 0 && plan.finally === 'ok'
