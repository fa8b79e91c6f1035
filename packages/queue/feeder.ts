import { aborted } from 'node:util'
import type { QueueLog } from './connection.ts'
import type { DeliveryHint } from './names.ts'
import { throttle } from './throttle.ts'

/**
 * Calls T3 for destinations that may have something due: after routing, after each result, after a
 * resume. Owns the set of destinations that still need a call.
 *
 * F1. Every request is followed by a call that began after it. One already under way doesn't count: it
 *     may have read the rows before the requester's commit.
 * F2. One call at a time; a destination requested a thousand times meanwhile is in the next call once.
 * F3. A destination whose lock another feeder holds is fed again some milliseconds later, a few times:
 *     the other one, too, may have read before the requester's commit.
 *
 * What it gives up (errors, tries used up, more destinations than it holds, a stop) the sweeper finds.
 */
export type Feeder = Readonly<{
  request(destinationIds: readonly string[]): void
  /** Destinations given up since the start. */
  dropped(): number
  /** Takes no more requests and feeds what was requested until `signal` aborts. */
  stop(signal: AbortSignal): Promise<void>
}>

export type FeedResult = Readonly<{
  admitted: readonly Readonly<{ id: string; generation: number; destinationId: string }>[]
  /** Destinations whose lock another feeder held. */
  skipped: readonly string[]
}>

export type FeederParams = Readonly<{
  /** T3, for all of them in one transaction. */
  feed: (destinationIds: readonly string[]) => Promise<FeedResult>
  /** The producer's `addDeliveries`: what it can't add, the sweeper leases. */
  add: (jobs: readonly DeliveryHint[]) => Promise<boolean>
  log: QueueLog
  /** In [0, 1): parts feeders that met at one lock. */
  random: () => number
}>

/** Bounds the transaction of one call, and for how long it holds how many destinations' locks. */
const destinationsPerFeedMax = 64
const destinationsHeldMax = 20_000
/** The shortest time from one call to the next: under load fewer, fuller transactions; nobody waits at less than 200 a second. */
const feedIntervalMs = 5
/** Six tries, from 4 to 128 ms apart: a quarter of a second in all, many times what a call takes. */
const skippedTriesMax = 6
const skippedWaitMs = 4
const logWindowMs = 5_000

/** A destination that was skipped: tries made since it was last requested, and the one timer to its next try. */
type Skipped = { tries: number; timer: NodeJS.Timeout | undefined }

export function createFeeder(params: FeederParams): Feeder {
  const dirty = new Set<string>()
  const skipped = new Map<string, Skipped>()
  let dropped = 0
  let running: Promise<void> | undefined
  let stopping: Promise<void> | undefined
  let outOfTime = false

  const logFailure = throttle<unknown>({
    windowMs: logWindowMs,
    write: (error, suppressed) => params.log.warn({ event: 'feeder.failed', error, suppressed }),
  })

  function mark(id: string): void {
    dirty.add(id)
    running ??= run()
  }

  async function run(): Promise<void> {
    // The rest of this turn of the event loop may ask for more: one call instead of many.
    await new Promise((resolve) => setImmediate(resolve))
    while (dirty.size > 0 && !outOfTime) {
      const interval = new Promise((resolve) => setTimeout(resolve, feedIntervalMs))
      const batch: string[] = []
      for (const id of dirty) {
        if (batch.length === destinationsPerFeedMax) break
        batch.push(id)
        // Before the call, not after it: a request that comes while it runs must lead to another (F1).
        dirty.delete(id)
      }
      await feed(batch)
      await interval
    }
    running = undefined
  }

  async function feed(batch: readonly string[]): Promise<void> {
    let result: FeedResult
    try {
      result = await params.feed(batch)
    } catch (error) {
      for (const id of batch) forget(id)
      dropped += batch.length
      logFailure(error)
      return
    }
    const locked = new Set(result.skipped)
    for (const id of batch) {
      if (locked.has(id)) feedLater(id)
      else forget(id)
    }
    if (result.admitted.length > 0) void params.add(result.admitted.map(({ id, generation }) => ({ id, generation })))
  }

  function feedLater(id: string): void {
    const entry = skipped.get(id) ?? { tries: 0, timer: undefined }
    if (entry.timer !== undefined) return
    if (entry.tries === skippedTriesMax || stopping !== undefined) {
      forget(id)
      dropped += 1
      return
    }
    const waitMs = skippedWaitMs * 2 ** entry.tries * (0.5 + params.random() / 2)
    entry.tries += 1
    entry.timer = setTimeout(() => {
      entry.timer = undefined
      mark(id)
    }, waitMs)
    skipped.set(id, entry)
  }

  function forget(id: string): void {
    clearTimeout(skipped.get(id)?.timer)
    skipped.delete(id)
  }

  return {
    request(destinationIds) {
      if (stopping !== undefined) return
      for (const id of destinationIds) {
        const before = skipped.get(id)
        // A new commit to be found: its tries count from here.
        if (before !== undefined) before.tries = 0
        if (before !== undefined || dirty.has(id) || dirty.size + skipped.size < destinationsHeldMax) mark(id)
        else dropped += 1
      }
    },
    dropped: () => dropped,
    stop(signal) {
      stopping ??= (async () => {
        for (const id of skipped.keys()) forget(id)
        await Promise.race([running, aborted(signal, signal)])
        outOfTime = true
      })()
      return stopping
    },
  }
}
