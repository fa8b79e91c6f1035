import type { EventId } from '@tenterhook/schemas/ids'
import type { Acceptance, NewEvent } from '@tenterhook/store/accept'

/**
 * Owns the requests that wait for their commit. Requests arriving together share one transaction.
 *
 * - An event is `accepted` only after its COMMIT was reported (I2); whatever is unsure is `unavailable`, and nothing is
 *   retried behind the sender's back.
 * - Flushes at once when idle; at most `batchesInFlightMax` commits run at a time, each bounded by rows and bytes (I10),
 *   the second only when enough waits to be worth it.
 * - A batch is filled when its connection is there. While Postgres doesn't answer a connect, everything is still here,
 *   and leaves when its time is up: not after a connect's timeout and a statement's.
 * - Equal dedupe keys of a batch are folded onto the first; the rest are answered after its commit.
 * - A batch is bisected only when Postgres refused a row before the commit.
 */
export type CommitOutcome =
  | { kind: 'accepted' }
  | { kind: 'duplicate'; firstId: EventId; differs: boolean }
  | { kind: 'unavailable'; reason: 'buffer_full' | 'waited_too_long' | 'commit_failed' | 'stopping' }
  /** Postgres can't store this request's data; the others of its batch were not affected. */
  | { kind: 'refused'; detail: string }

/** A connection to Postgres, for one batch. */
export interface CommitConnection {
  commit(batch: readonly NewEvent[]): Promise<Acceptance[]>
  /** With an error it is not to be used again. */
  close(error?: unknown): void
}

export interface GroupCommit {
  submit(event: NewEvent): Promise<CommitOutcome>
  /** Takes nothing more; resolves when everything submitted has its outcome. */
  stop(): Promise<void>
}

export interface GroupCommitLimits {
  batchRowsMax: number
  batchBytesMax: number
  waitingRowsMax: number
  /** A request not sent to Postgres after this long leaves with `waited_too_long`. */
  acceptTimeoutMs: number
}

export const groupCommitLimits: GroupCommitLimits = {
  batchRowsMax: 200,
  batchBytesMax: 4 * 1_048_576,
  waitingRowsMax: 5_000,
  acceptTimeoutMs: 2_500,
}

/** One on its way to the disk while the next is being filled and sent. */
const batchesInFlightMax = 2
/** A second batch beside the first is worth its cost from here on; fewer rows wait for the first one's end, a fsync away. */
const secondBatchRowsMin = 16

/** Of a row that was sent: a duplicate is still Postgres's word, without what the row itself says of it. */
type LeaderOutcome = Acceptance | Exclude<CommitOutcome, { kind: 'duplicate' }>

const failed = { kind: 'unavailable', reason: 'commit_failed' } as const

interface Waiting {
  event: NewEvent
  deadlineMs: number
  settle: (outcome: CommitOutcome) => void
}

export function createGroupCommit(params: {
  connect: () => Promise<CommitConnection>
  isRowError: (error: unknown) => boolean
  onCommitFailed: (error: unknown, rows: number) => void
  onBatch: (rows: number) => void
  beforeCommit: () => void
  monotonicMs: () => number
  limits?: GroupCommitLimits
}): GroupCommit {
  const limits = params.limits ?? groupCommitLimits
  const waiting: Waiting[] = []
  let inFlight = 0
  let connecting = false
  let flushPlanned = false
  let timer: NodeJS.Timeout | undefined
  let stopping: PromiseWithResolvers<void> | undefined

  function submit(event: NewEvent): Promise<CommitOutcome> {
    if (stopping) return Promise.resolve({ kind: 'unavailable', reason: 'stopping' })
    if (waiting.length >= limits.waitingRowsMax) return Promise.resolve({ kind: 'unavailable', reason: 'buffer_full' })
    return new Promise((settle) => {
      waiting.push({ event, deadlineMs: params.monotonicMs() + limits.acceptTimeoutMs, settle })
      planFlush()
      // A planned flush looks at the deadlines itself; behind batches that hang nothing else would.
      if (!flushPlanned && waiting.length === 1) watchDeadline()
    })
  }

  /** After this turn of the event loop, so that requests read in it go together. */
  function planFlush(): void {
    if (flushPlanned || !mayFlush()) return
    flushPlanned = true
    setImmediate(() => {
      flushPlanned = false
      if (mayFlush()) void flush()
      watchDeadline()
    })
  }

  function mayFlush(): boolean {
    if (waiting.length === 0 || connecting) return false
    return inFlight === 0 || (inFlight < batchesInFlightMax && waiting.length >= secondBatchRowsMin)
  }

  function takeBatch(): Waiting[] {
    let rows = 0
    let bytes = 0
    for (const { event } of waiting) {
      if (rows === limits.batchRowsMax || (rows > 0 && bytes + event.body.length > limits.batchBytesMax)) break
      rows += 1
      bytes += event.body.length
    }
    return waiting.splice(0, rows)
  }

  /** The queue is first in, first out with one timeout for all: only its head can be the next to run out. */
  function watchDeadline(): void {
    clearTimeout(timer)
    const head = waiting[0]
    if (!head) return
    timer = setTimeout(
      () => {
        const nowMs = params.monotonicMs()
        let late = 0
        while ((waiting[late]?.deadlineMs ?? Infinity) <= nowMs) late += 1
        for (const one of waiting.splice(0, late)) one.settle({ kind: 'unavailable', reason: 'waited_too_long' })
        watchDeadline()
      },
      Math.max(1, head.deadlineMs - params.monotonicMs()),
    )
  }

  async function flush(): Promise<void> {
    inFlight += 1
    const connection = await connectOrRefuse()
    const batch = connection ? takeBatch() : []
    if (connection && batch.length > 0) {
      planFlush()
      params.onBatch(batch.length)
      const { leaders, followers } = fold(batch)
      const { outcomes, failure } = await commit(connection, leaders)
      connection.close(failure)
      for (const [leader, outcome] of outcomes) {
        leader.settle(outcome.kind === 'duplicate' ? duplicateOf(leader.event, outcome) : outcome)
        for (const follower of followers.get(leader) ?? [])
          follower.settle(outcomeOfFollower(leader, outcome, follower))
      }
    } else {
      // All that waited for it ran out of time.
      connection?.close()
    }
    inFlight -= 1
    planFlush()
    if (stopping && inFlight === 0 && waiting.length === 0) stopping.resolve()
  }

  /** Without a connection nothing was sent: a batch's worth leaves, and those behind it get a try of their own. */
  async function connectOrRefuse(): Promise<CommitConnection | undefined> {
    connecting = true
    try {
      return await params.connect()
    } catch (error) {
      const refused = takeBatch()
      if (refused.length > 0) params.onCommitFailed(error, refused.length)
      for (const one of refused) one.settle(failed)
      return undefined
    } finally {
      connecting = false
    }
  }

  /** `failure` is of Postgres or the line to it, not of a row. */
  async function commit(
    connection: CommitConnection,
    batch: readonly Waiting[],
  ): Promise<{ outcomes: Array<[Waiting, LeaderOutcome]>; failure?: unknown }> {
    try {
      params.beforeCommit()
      const acceptances = await connection.commit(batch.map((one) => one.event))
      return { outcomes: batch.map((one, i) => [one, acceptances[i] ?? failed]) }
    } catch (error) {
      if (!params.isRowError(error)) {
        params.onCommitFailed(error, batch.length)
        return { outcomes: batch.map((one) => [one, failed]), failure: error }
      }
      const [only] = batch
      if (only && batch.length === 1)
        return {
          outcomes: [[only, { kind: 'refused', detail: error instanceof Error ? error.message : String(error) }]],
        }
      const half = Math.ceil(batch.length / 2)
      const first = await commit(connection, batch.slice(0, half))
      // A connection that failed under the first half has nothing to say about the second.
      if (first.failure !== undefined)
        return {
          ...first,
          outcomes: [...first.outcomes, ...batch.slice(half).map((one): [Waiting, LeaderOutcome] => [one, failed])],
        }
      const second = await commit(connection, batch.slice(half))
      return { ...second, outcomes: [...first.outcomes, ...second.outcomes] }
    }
  }

  return {
    submit,
    stop() {
      if (!stopping) {
        stopping = Promise.withResolvers()
        if (inFlight === 0 && waiting.length === 0) stopping.resolve()
        else planFlush()
      }
      return stopping.promise
    },
  }
}

function fold(batch: readonly Waiting[]): { leaders: Waiting[]; followers: Map<Waiting, Waiting[]> } {
  const leaders: Waiting[] = []
  const byKey = new Map<string, Waiting>()
  const followers = new Map<Waiting, Waiting[]>()
  for (const one of batch) {
    const key = one.event.keyHash && `${one.event.sourceId} ${one.event.keyHash.toString('base64')}`
    const leader = key === null ? undefined : byKey.get(key)
    if (leader) {
      followers.set(leader, [...(followers.get(leader) ?? []), one])
      continue
    }
    if (key !== null) byKey.set(key, one)
    leaders.push(one)
  }
  return { leaders, followers }
}

function duplicateOf(
  event: NewEvent,
  { firstId, firstBodyHash }: { firstId: EventId; firstBodyHash: Buffer },
): CommitOutcome {
  return { kind: 'duplicate', firstId, differs: !event.bodyHash?.equals(firstBodyHash) }
}

function outcomeOfFollower(leader: Waiting, outcome: LeaderOutcome, follower: Waiting): CommitOutcome {
  switch (outcome.kind) {
    case 'accepted':
      return {
        kind: 'duplicate',
        firstId: leader.event.id,
        differs: !(leader.event.bodyHash && follower.event.bodyHash?.equals(leader.event.bodyHash)),
      }
    case 'duplicate':
      return duplicateOf(follower.event, outcome)
    case 'unavailable':
      return outcome
    case 'refused':
      // The first one's data was refused, not this one's, which was never tried.
      return failed
  }
}
