import { timeOfId } from '@tenterhook/schemas/ids'
import type { DeliverySummary, EventSummary } from './api-shapes.ts'

/** What a tail has to say next. */
export type News =
  /** Without `deliveries` when there were more than could be looked at. */
  | { kind: 'event'; event: EventSummary; deliveries: DeliverySummary[] | undefined }
  /** A delivery that was unfinished when its event was told has ended. */
  | { kind: 'delivery'; delivery: DeliverySummary }

/** Rows of a list since a time; `complete` when they are all there are. */
export interface Found<Row> {
  rows: readonly Row[]
  complete: boolean
}

/**
 * Each look is: events since `eventsSinceMs`, to `meet`; deliveries since `deliveriesSinceMs`, to `news`. Events come
 * first: a routed one has all of its deliveries by then. Times are those in ids, Unix milliseconds; `nowMs` may be any
 * clock that does not run backwards.
 */
export interface EventWatch {
  eventsSinceMs(): number
  meet(events: readonly EventSummary[], nowMs: number): void
  /** Undefined: no deliveries are of interest. */
  deliveriesSinceMs(): number | undefined
  /** Oldest first. */
  news(deliveries: Found<DeliverySummary>, nowMs: number): News[]
}

/** Events that overlap may become visible out of order: a commit waits up to 2.5 s, and clocks differ a little. */
const overlapMs = 10_000
/** An event is told once its deliveries were tried, or after this time without. */
const settleMs = 2_000
/** Deliveries that end later than this after their event was told are not waited for; `events get` has them. */
const followMs = 60_000
/** Above this the oldest are told as they are. */
const watchedMax = 2_000

const ended = new Set(['delivered', 'dead', 'cancelled'])

/**
 * Owns which events were seen and which deliveries are still of interest.
 *
 * W1. Each event is told once, each of its unfinished deliveries at most once more.
 * W2. What it remembers is bounded, by time and by number.
 *
 * `newestMs` is the time of the newest event at the start; events with ids under `oldestId` are history.
 */
export function createEventWatch({ newestMs, oldestId }: { newestMs: number; oldestId: string }): EventWatch {
  let newest = newestMs
  /** Those that a look may find again. */
  const seen = new Set<string>()
  const waiting = new Map<string, { event: EventSummary; sinceMs: number }>()
  /** Unfinished deliveries by id, until when they are followed. */
  const followed = new Map<string, number>()

  function isSettled({ state }: EventSummary, deliveries: readonly DeliverySummary[]): boolean {
    return state !== 'accepted' && deliveries.every((one) => ended.has(one.state) || one.failures > 0)
  }

  function forget(nowMs: number): void {
    for (const id of seen) if (timeOfId(id) < newest - overlapMs && !waiting.has(id)) seen.delete(id)
    for (const [id, untilMs] of followed) if (untilMs < nowMs) followed.delete(id)
  }

  return {
    eventsSinceMs: () => Math.max(0, Math.min(newest - overlapMs, ...[...waiting.keys()].map(timeOfId))),
    meet(events, nowMs) {
      for (const event of events) {
        const known = waiting.get(event.id)
        if (known) known.event = event
        if (seen.has(event.id) || event.id < oldestId) continue
        seen.add(event.id)
        waiting.set(event.id, { event, sinceMs: nowMs })
        newest = Math.max(newest, timeOfId(event.id))
      }
    },
    deliveriesSinceMs() {
      const times = [...waiting.keys(), ...followed.keys()].map(timeOfId)
      return times.length === 0 ? undefined : Math.min(...times)
    },
    news({ rows, complete }, nowMs) {
      const news: News[] = []
      for (const delivery of rows.toReversed()) {
        if (!ended.has(delivery.state) || !followed.delete(delivery.id)) continue
        news.push({ kind: 'delivery', delivery })
      }
      const byEvent = Map.groupBy(rows, ({ eventId }) => eventId)
      for (const [id, { event, sinceMs }] of [...waiting].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
        const own = byEvent.get(id) ?? []
        const isDue = nowMs - sinceMs >= settleMs || waiting.size > watchedMax
        if (!isDue && !(complete && isSettled(event, own))) continue
        waiting.delete(id)
        news.push({ kind: 'event', event, deliveries: complete ? own : undefined })
        for (const delivery of own) if (!ended.has(delivery.state)) followed.set(delivery.id, nowMs + followMs)
      }
      forget(nowMs)
      return news
    },
  }
}
