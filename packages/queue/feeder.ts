import { aborted } from 'node:util'
import type { QueueLog } from './connection.ts'
import { createFeedOrder, quantum, type Wanting } from './feed-order.ts'
import type { LaneHint } from './names.ts'
import { createRoom } from './room.ts'
import { throttle } from './throttle.ts'

/**
 * Calls T3 for destinations that may have something due: after routing, after each result, after a
 * resume. Owns the set of destinations that still need a call; feed-order.ts says whose turn it is.
 *
 * F1. Every request is followed by a call that began after it. One already under way doesn't count: it
 *     may have read the rows before the requester's commit.
 * F2. One call at a time; a destination requested a thousand times meanwhile is in the next call once.
 * F3. A destination whose lock another feeder holds is fed again some milliseconds later, a few times:
 *     the other one, too, may have read before the requester's commit.
 * F4. Nothing is admitted beyond the room in the queues (room.ts); who finds none keeps its place in line.
 * F5. A destination whose rate limit is used up is fed when it has room again, and not before: what is
 *     requested meanwhile could admit nothing.
 *
 * What it gives up (errors, tries used up, more destinations than it holds, a stop) the sweeper finds.
 */
export type Feeder = Readonly<{
  request(wanted: readonly Wanting[]): void
  /** Destinations waiting for their turn, a lock or a rate limit. */
  held(): number
  /** Destinations given up since the start. */
  dropped(): number
  /** Deliveries that may still be admitted; 0 or less: routing leaves its deliveries to the feed. */
  room(): number
  /** Deliveries that were admitted otherwise than here, by routing. */
  admitted(count: number): void
  /** Takes no more requests and feeds what was requested until `signal` aborts. */
  stop(signal: AbortSignal): Promise<void>
}>

export type FeedResult = Readonly<{
  admitted: readonly LaneHint[]
  /** Destinations whose lock another feeder held. */
  skipped: readonly string[]
  /** Destinations whose rate limit has room again after that time. */
  later: readonly Readonly<{ id: string; afterMs: number }>[]
  /** Destinations that took all they might and have more due. */
  more: readonly string[]
}>

export type FeederParams = Readonly<{
  /** T3, for all of them in one transaction, each at most its `max`. Not through the queue: the sweep may lease at once. */
  feed: (wanted: readonly Readonly<{ id: string; max: number }>[], throughQueue: boolean) => Promise<FeedResult>
  /** The producer's `addDeliveries`: what it can't add, the sweeper leases. */
  add: (hints: readonly LaneHint[]) => Promise<boolean>
  /** Whether the queue takes hints: false while Redis is away, refusing or nearly full. */
  admissionOpen: () => boolean
  /** Deliveries in the queues or under way, in all of Postgres. */
  countAdmitted: () => Promise<number>
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
/** A limit per hour may be raised meanwhile: nobody waits for the old one longer than this. */
const laterMsMax = 10_000
const logWindowMs = 5_000

/** A destination that was skipped: tries made since it was last requested, and the one timer to its next try. */
type Skipped = { tries: number; timer: NodeJS.Timeout | undefined }

export function createFeeder(params: FeederParams): Feeder {
  const order = createFeedOrder()
  const skipped = new Map<string, Skipped>()
  /** By their rate limits, until the timer. */
  const limited = new Map<string, NodeJS.Timeout>()
  let dropped = 0
  let running: Promise<void> | undefined
  let stopping: Promise<void> | undefined
  let outOfTime = false

  const logFailure = throttle<unknown>({
    windowMs: logWindowMs,
    write: (error, suppressed) => params.log.warn({ event: 'feeder.failed', error, suppressed }),
  })
  const room = createRoom({ count: params.countAdmitted, onFailed: logFailure })

  function mark(destination: Wanting): void {
    order.add(destination)
    running ??= run()
  }

  async function run(): Promise<void> {
    // The rest of this turn of the event loop may ask for more: one call instead of many.
    await new Promise((resolve) => setImmediate(resolve))
    while (order.size() > 0 && !outOfTime) {
      const interval = new Promise((resolve) => setTimeout(resolve, feedIntervalMs))
      const free = await room.free()
      if (free > 0) await feed(free)
      else if (stopping !== undefined) break
      await interval
    }
    running = undefined
  }

  /** As many destinations as fit into one call and, all of them taking their quantum, into the room. */
  function takeBatch(free: number): Map<string, { tenant: string; max: number }> {
    const batch = new Map<string, { tenant: string; max: number }>()
    for (let left = free; left > 0 && batch.size < destinationsPerFeedMax; left -= quantum) {
      // It leaves the order before the call: a request that comes while it runs must lead to another (F1).
      const next = order.next()
      if (next === undefined) break
      batch.set(next.id, { tenant: next.tenant, max: Math.min(quantum, left) })
    }
    return batch
  }

  async function feed(free: number): Promise<void> {
    const batch = takeBatch(free)
    const throughQueue = params.admissionOpen()
    let result: FeedResult
    try {
      result = await params.feed(
        Array.from(batch, ([id, { max }]) => ({ id, max })),
        throughQueue,
      )
    } catch (error) {
      for (const id of batch.keys()) forget(id)
      dropped += batch.size
      logFailure(error)
      return
    }
    const locked = new Set(result.skipped)
    for (const [id, { tenant }] of batch) {
      if (locked.has(id)) feedLater(id, tenant)
      else forget(id)
    }
    for (const { id, afterMs } of result.later) {
      const tenant = batch.get(id)?.tenant
      if (tenant !== undefined) feedWhenItMay(id, tenant, afterMs)
    }
    for (const id of result.more) {
      const tenant = batch.get(id)?.tenant
      if (tenant !== undefined && stopping === undefined) order.add({ id, tenant })
    }
    if (result.admitted.length === 0) return
    room.took(result.admitted.length)
    const taken = new Map<string, number>()
    for (const { destinationId } of result.admitted) {
      const tenant = batch.get(destinationId)?.tenant ?? ''
      taken.set(tenant, (taken.get(tenant) ?? 0) + 1)
    }
    for (const [tenant, deliveries] of taken) order.charge(tenant, deliveries)
    if (throughQueue) void params.add(result.admitted)
  }

  function feedLater(id: string, tenant: string): void {
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
      mark({ id, tenant })
    }, waitMs)
    skipped.set(id, entry)
  }

  function feedWhenItMay(id: string, tenant: string, afterMs: number): void {
    if (stopping !== undefined || limited.has(id)) return
    const timer = setTimeout(
      () => {
        limited.delete(id)
        mark({ id, tenant })
      },
      Math.min(afterMs, laterMsMax),
    )
    limited.set(id, timer)
  }

  function forget(id: string): void {
    clearTimeout(skipped.get(id)?.timer)
    skipped.delete(id)
  }

  const held = () => order.size() + skipped.size + limited.size

  return {
    request(wanted) {
      if (stopping !== undefined) return
      for (const destination of wanted) {
        const { id } = destination
        if (limited.has(id)) continue // F5
        const before = skipped.get(id)
        // A new commit to be found: its tries count from here.
        if (before !== undefined) before.tries = 0
        if (before !== undefined || order.has(id) || held() < destinationsHeldMax) mark(destination)
        else dropped += 1
      }
    },
    held,
    dropped: () => dropped,
    room: room.known,
    admitted: room.took,
    stop(signal) {
      stopping ??= (async () => {
        for (const id of skipped.keys()) forget(id)
        for (const timer of limited.values()) clearTimeout(timer)
        limited.clear()
        await Promise.race([running, aborted(signal, signal)])
        outOfTime = true
      })()
      return stopping
    },
  }
}
