import { aborted } from 'node:util'

import type { QueueLog } from './connection.ts'
import type { DeliverJob } from './names.ts'
import { throttle } from './throttle.ts'

/**
 * Calls T3 for destinations that may have something due: after routing, after each result, after a
 * resume. Owns which destinations still need a call.
 *
 * - Every request is followed by a call that began after it (a call already under way may have read the
 *   rows before the caller's commit).
 * - One call at a time, and a destination asked for a thousand times meanwhile is in the next one once.
 * - A destination whose lock another feeder holds is asked again after a few milliseconds, a few times.
 *
 * What is given up on (errors, tries used up, more destinations than it holds) the sweeper finds.
 */
export type Feeder = Readonly<{
  request(destinationIds: readonly string[]): void
  /** Destinations given up on since the start. */
  dropped(): number
  /** Takes no more requests; what was requested is fed until `signal` aborts. */
  stop(signal: AbortSignal): Promise<void>
}>

export type FeedResult = Readonly<{
  admitted: readonly Readonly<{ id: string; generation: number; destinationId: string }>[]
  /** Destinations whose row another feeder had locked. */
  skipped: readonly string[]
}>

export type FeederParams = Readonly<{
  feed: (destinationIds: readonly string[]) => Promise<FeedResult>
  add: (jobs: readonly DeliverJob[]) => unknown
  log: QueueLog
  /** In [0, 1): spreads feeders that met at one lock. */
  random: () => number
}>

/** Destinations in one call: bounds the transaction, which holds their locks. */
const destinationsPerFeedMax = 64
const destinationsHeldMax = 20_000
const skippedTriesMax = 6
const skippedWaitMs = 4
const logWindowMs = 5_000

export function createFeeder(params: FeederParams): Feeder {
  const dirty = new Set<string>()
  /** Tries left to other feeders' locks; gone once a call got the lock. */
  const tries = new Map<string, number>()
  let dropped = 0
  let running: Promise<void> | undefined
  let stopping: Promise<void> | undefined
  let cut = false

  const logFailure = throttle<unknown>({
    windowMs: logWindowMs,
    write: (error, suppressed) => params.log.warn({ err: error, suppressed }, 'feeding destinations failed'),
  })

  function mark(destinationIds: readonly string[]): void {
    for (const id of destinationIds) {
      if (dirty.size < destinationsHeldMax || dirty.has(id)) dirty.add(id)
      else dropped += 1
    }
    if (dirty.size > 0) running ??= run()
  }

  async function run(): Promise<void> {
    // The rest of this turn of the event loop may ask for more: one call instead of many.
    await new Promise((resolve) => setImmediate(resolve))
    while (dirty.size > 0 && !cut) {
      const batch: string[] = []
      for (const id of dirty) {
        if (batch.length === destinationsPerFeedMax) break
        batch.push(id)
      }
      // Before the call, not after: a request made while it runs must lead to another.
      for (const id of batch) dirty.delete(id)
      await feedOnce(batch)
    }
    running = undefined
  }

  async function feedOnce(batch: readonly string[]): Promise<void> {
    try {
      const result = await params.feed(batch)
      const skipped = new Set(result.skipped)
      for (const id of batch) if (!skipped.has(id)) tries.delete(id)
      for (const id of skipped) tryAgain(id)
      if (result.admitted.length > 0) params.add(result.admitted.map(({ id, generation }) => ({ id, generation })))
    } catch (error) {
      for (const id of batch) tries.delete(id)
      dropped += batch.length
      logFailure(error)
    }
  }

  function tryAgain(id: string): void {
    const made = tries.get(id) ?? 0
    if (made >= skippedTriesMax || stopping !== undefined) {
      tries.delete(id)
      dropped += 1
      return
    }
    tries.set(id, made + 1)
    const waitMs = skippedWaitMs * 2 ** made * (0.5 + params.random())
    setTimeout(() => {
      if (stopping === undefined) mark([id])
    }, waitMs)
  }

  return {
    request(destinationIds) {
      if (stopping === undefined) mark(destinationIds)
    },
    dropped: () => dropped,
    stop(signal) {
      stopping ??= (async () => {
        await Promise.race([running ?? Promise.resolve(), aborted(signal, signal)])
        cut = true
      })()
      return stopping
    },
  }
}
