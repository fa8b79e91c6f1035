import type { Property } from './checks.ts'
import type { Delay, Fault } from './faults.ts'
import type { RequestPlan, Scenario } from './scenario.ts'

/** One switch of the model: a rule of the protocol that is left out or changed, and so must be caught. */
export type Flaw = keyof typeof controls
export type Flaws = { readonly [Name in Flaw]?: true }

export interface Control {
  /** The row of PROTOCOL §4, or what goes beyond it. */
  readonly row: string
  /** What happens then, and so must be noticed. */
  readonly breaks: Property
  /** What of a random scenario is given, so that what happens is not rare; `faults: []` where none is needed. */
  readonly given?: Partial<Scenario>
}

/** Ends when somebody passes `until`, or after so many steps. */
const delay = (moment: Delay['moment'], until: Delay['until'] = 'anywhere'): Delay => ({
  at: 0,
  moment,
  lasts: 400,
  until,
})

/** `pick` 0 loses all there is: all asynchronous commits, a reply with its transaction. */
const fault = (kind: Fault['kind'], moment: Fault['moment'], more: Partial<Fault> = {}): Fault => ({
  kind,
  ...delay(moment),
  pick: 0,
  isSlow: false,
  ...more,
})

const request: RequestPlan = { key: null, orderKey: 'a', ingest: 0, unstorable: false }
/** The first of two with one key is not committed. */
const twins: Partial<Scenario> = {
  requests: [
    { ...request, key: 'k1' },
    { ...request, key: 'k1' },
  ],
  faults: [fault('reply lost', 'T1')],
}
/** The same two keys at both copies of ingest, in opposite orders: sorted batches don't meet. */
const crossing: readonly RequestPlan[] = [
  { ...request, key: 'k1' },
  { ...request, key: 'k2' },
  { ...request, key: 'k2', ingest: 1 },
  { ...request, key: 'k1', ingest: 1 },
]
const unordered = { connections: [{ id: 'c1', destination: 'd1', ordered: false }] }
const ordered = { connections: [{ id: 'c1', destination: 'd1', ordered: true }] }
/** At two copies of ingest, the second after the answer to the first. */
const oneByOne = { ...ordered, requests: [request, { ...request, ingest: 1 }], sent: 'one by one' } as const

/** The dispatcher is stopped beyond its lease, until another one has leased the delivery. */
const stopped = (moment: Fault['moment']) => [fault('pause', moment, { pick: 1, until: 'dispatcher.after_lease' })]
/** A crash takes the lease back, and the dispatcher is slow to notice anything. */
const leaseLost = (moment: Fault['moment'], until: Fault['until']) => [
  fault('postgres crash', moment, { isSlow: true, until }),
]
/** Passes over so many statements of a transaction, so that the next delay meets it at a later one. */
const betweenStatements = (transaction: 'T3', statements: number): readonly Delay[] =>
  Array.from({ length: statements }, () => delay(transaction, transaction))
const crashAfterAnswer = { faults: [fault('postgres crash', 'operator.acknowledged')] }

export const controls = {
  answerBeforeCommit: {
    row: 'answer before COMMIT',
    breaks: 'S1',
    given: { faults: [fault('kill', 'ingest.before_commit')] },
  },
  asyncAccept: {
    row: 'T1 asynchronous',
    breaks: 'S1',
    given: { faults: [fault('postgres crash', 'ingest.after_answer')] },
  },
  unknownCommitAnswered: {
    row: 'COMMIT unknown answered 2xx',
    breaks: 'S1',
    given: { faults: [fault('reply lost', 'T1')] },
  },
  failedCommitBisected: {
    row: 'a failing COMMIT bisected',
    breaks: 'I3',
    given: { faults: [fault('reply lost', 'T1', { pick: 1 })] },
  },
  dedupeInMemory: { row: 'dedupe in memory', breaks: 'S1', given: twins },
  dedupeInRedis: { row: 'dedupe claimed in Redis before the COMMIT', breaks: 'S1', given: twins },
  unsortedBatches: {
    row: 'batches not sorted by key',
    breaks: 'deadlock',
    given: { requests: crossing, sent: 'at once', faults: [] },
  },
  winnerReadInInsert: {
    row: 'insert and read the winner in one statement',
    breaks: 'S1',
    given: {
      requests: [
        { ...request, key: 'k1' },
        { ...request, key: 'k1', ingest: 1 },
      ],
      sent: 'at once',
      faults: [],
    },
  },
  noRouteSweep: { row: 'no route sweep', breaks: 'S1', given: { faults: [fault('kill', 'ingest.after_commit')] } },
  noQueuedSweep: { row: 'no queued sweep', breaks: 'S1', given: { faults: [fault('kill', 'router.after_route')] } },
  noLeaseSweep: { row: 'no lease sweep', breaks: 'S1', given: { faults: [fault('kill', 'dispatcher.after_lease')] } },
  sweeperBumpsGeneration: {
    row: 'sweeper bumps the generation and T4 wants equality',
    breaks: 'S1',
    given: { faults: [], slowQueue: true },
  },
  leaseIgnoresState: {
    row: 'T4 without the state condition',
    breaks: 'S3',
    given: { faults: [], slowQueue: true, answers: ['failed'] },
  },
  jobIdWithoutGenerationKept: { row: 'job id without generation, jobs kept', breaks: 'prompt', given: { faults: [] } },
  jobIdWithoutGenerationRemoved: {
    row: 'job id without generation, jobs removed',
    breaks: 'prompt',
    given: { faults: [] },
  },
  keptJobsReAdded: { row: 'job id with generation, jobs kept, sweeper re-adds', breaks: 'S1' },
  failureByNumber: {
    row: 'failure matched by (generation, attempt) instead of a token',
    breaks: 'S6',
    given: {
      ...unordered,
      requests: [request],
      answers: ['failed', 'failed'],
      faults: leaseLost('dispatcher.after_send', 'dispatcher.after_lease'),
    },
  },
  failureByState: {
    row: 'failure matched by state only',
    breaks: 'S6',
    given: { answers: ['failed', 'failed'], faults: stopped('dispatcher.after_send') },
  },
  failureUnmatched: {
    row: 'failure not matched at all',
    breaks: 'S6',
    given: { answers: ['failed', 'failed'], faults: stopped('dispatcher.after_send') },
  },
  successNeedsLease: {
    row: 'success only with a matching lease',
    breaks: 'S6',
    given: { requests: [request], answers: ['ok'], finally: 'failed', faults: stopped('dispatcher.after_send') },
  },
  lateSuccessEndsLease: {
    row: 'late success ends another’s live lease',
    breaks: 'S6',
    given: { answers: ['ok'], faults: stopped('dispatcher.after_send') },
  },
  retryLimitCountsLeases: {
    row: 'retry limit counts leases',
    breaks: 'S1',
    given: { faults: [...stopped('dispatcher.after_lease'), fault('kill', 'dispatcher.before_send')] },
  },
  queueFailureFinal: {
    row: 'BullMQ’s `failed` is final',
    breaks: 'S1',
    given: { faults: [fault('kill', 'dispatcher.after_lease')] },
  },
  sweepSelectsThenUpdates: {
    row: 'sweeper selects, then updates by id',
    breaks: 'S6',
    given: {
      answers: ['ok'],
      faults: [fault('pause', 'dispatcher.after_send', { pick: 1, until: 'T6' })],
      delays: [delay('T6', 'dispatcher.after_result')],
    },
  },
  randomDeliveryIds: {
    row: 'random delivery ids',
    breaks: 'I3',
    given: { faults: leaseLost('dispatcher.before_send', 'anywhere') },
  },
  attemptsKeyedByNumber: {
    row: 'attempts keyed by number',
    breaks: 'S6',
    given: { faults: leaseLost('dispatcher.before_send', 'dispatcher.after_result') },
  },
  attemptsWithForeignKey: {
    row: 'attempts with a foreign key',
    breaks: 'S6',
    given: { faults: leaseLost('dispatcher.before_send', 'T5') },
  },
  asyncCancel: {
    row: 'cancel acknowledged asynchronously',
    breaks: 'S9',
    given: { ...crashAfterAnswer, operator: { does: 'cancel', moment: 'anywhere', target: 0 } },
  },
  asyncReplay: {
    row: 'replay acknowledged asynchronously',
    breaks: 'S9',
    given: { ...crashAfterAnswer, operator: { does: 'replay', moment: 'anywhere', target: 0 } },
  },
  cancelFreesLease: {
    row: 'cancel frees a leased row at once',
    breaks: 'S6',
    given: { faults: [], operator: { does: 'cancel', moment: 'dispatcher.after_lease', target: 0 } },
  },
  heldStoredPerRow: {
    row: '`held` stored per row, no re-check time',
    breaks: 'S1',
    given: { faults: [], operator: { does: 'pause', moment: 'T3', target: 0 } },
  },
  windowWithoutLock: { row: 'window counted without the lock', breaks: 'W', given: { faults: [] } },
  windowCountedInLockStatement: {
    row: 'window counted in the same statement as the lock',
    breaks: 'W',
    given: { faults: [] },
  },
  windowInRedis: {
    row: 'window as a Redis counter',
    breaks: 'S1',
    given: { faults: [fault('kill', 'dispatcher.after_lease')] },
  },
  resultAdmitsUnasked: {
    row: 'T5 admits the next without asking if its row counted',
    breaks: 'W',
    given: { ...unordered, requests: [request, request, request], window: 1, faults: stopped('dispatcher.after_send') },
  },
  orderByInFlight: {
    row: 'strict order = one in flight per key',
    breaks: 'S7',
    given: { ...oneByOne, answers: ['failed'], faults: [] },
  },
  orderWithoutUnrouted: {
    row: 'strict order = no unfinished earlier delivery',
    breaks: 'S7',
    given: { ...oneByOne, faults: [], delays: [delay('router.after_claim', 'dispatcher.after_send')] },
  },
  orderInTwoStatements: {
    row: 'both conditions of strict order, but in two statements, deliveries first',
    breaks: 'S7',
    given: {
      ...oneByOne,
      faults: [],
      delays: [delay('router.after_claim', 'T3'), ...betweenStatements('T3', 2), delay('T3', 'router.after_route')],
    },
  },
  asyncOrderedLease: {
    row: 'ordered lease asynchronous',
    breaks: 'S8',
    given: { ...oneByOne, faults: leaseLost('dispatcher.before_send', 'anywhere') },
  },
  orderByIngestClock: { row: 'order by UUIDv7', breaks: 'S7', given: { ...oneByOne, faults: [] } },
  sequenceCached: { row: 'order by a sequence with CACHE > 1', breaks: 'S7', given: { ...oneByOne, faults: [] } },
  noBlockedSweep: {
    row: 'beyond the table: no sweep that repairs the mark of blocked rows',
    breaks: 'S1',
    given: {
      ...oneByOne,
      faults: [fault('kill', 'dispatcher.after_result')],
      delays: [delay('dispatcher.after_lease', 'router.after_feed')],
    },
  },
  noFeedSweep: { row: 'beyond the table: no feed sweep', breaks: 'S1' },
  leaseIgnoresPause: {
    row: 'beyond the table: the lease does not ask whether its destination is paused',
    breaks: 'S9',
    given: { operator: { does: 'pause', moment: 'T3', target: 3 } },
  },
  noClockCheck: {
    row: 'beyond the table: no look at the clock before the send',
    breaks: 'S4',
    given: { faults: [], delays: [delay('dispatcher.after_lease', 'dispatcher.after_result')] },
  },
} as const satisfies Record<string, Control>
