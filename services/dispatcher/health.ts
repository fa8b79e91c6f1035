/**
 * How fast destinations answer, as this process sees it: what their windows and their quarantine follow (DESIGN §3.7).
 * Owns averages and attempts under way by destination, and what it last had written of them. Nothing here waits; a
 * write that failed is simply due again.
 *
 * Copies judge apart: each writes what it sees change. What one writes of a destination that another knows better
 * is corrected as soon as that one's own sight of it changes.
 */
import type { DestinationId } from '@tenterhook/schemas/ids'

export interface Pace {
  destinationId: DestinationId
  /** Deliveries that may be admitted at once. */
  window: number
  /** For how long it counts as slow from now on; 0 ends it. */
  slowForMs: number
}

export interface Health {
  /** An attempt begins. `end` takes how long it took, or nothing when it says nothing of the destination. */
  begin(destinationId: DestinationId, timeoutMs: number): { end(durationMs?: number): void }
  /** What is to be written now, at most `max`, the same until `wrote` says it was. */
  due(max: number): Pace[]
  wrote(paces: readonly Pace[]): void
}

/** Of a new attempt in the average: some four timeouts in a row make a quick destination slow. */
const weight = 0.1
/** Below, an average says too little to change a window for. */
const attemptsMin = 8
/** A destination is slow beyond this part of its timeout, and no more below half of that. */
const slowPart = 1 / 3
const slowPartEnd = slowPart / 2
/** … or when it holds its share of sockets and one of its attempts is this old: before the first has timed out. */
const hangMs = 5_000
/** Long enough to outlast a destination's pauses, short enough that one nobody calls slow any more is soon free. */
const slowForMs = 30_000
const renewBeforeMs = 20_000
/** A window is what a destination could get through in this time, by its sockets and their attempts, … */
const windowMs = 2_000
/** … but no more than it does get through in this time: this machine may be what is slow, and what waits here for too long is handed back for nothing. */
const doneMs = 4_000
/** That many are no burden to anyone who is quick, whatever came of late. */
const windowUsual = 256
/** It keeps the destination's share of sockets busy twice over, and is never more than the store allows. */
const windowShares = 2
const windowMax = 2_000
/** Of a new look in the average of attempts per second. */
const rateWeight = 0.5
const rateEveryMs = 500
/** Destinations remembered; who is forgotten is judged anew. */
const destinationsMax = 20_000

interface Entry {
  id: DestinationId
  timeoutMs: number
  averageMs: number
  attempts: number
  /** Attempts since `countedMs`. */
  ended: number
  countedMs: number
  perSecond: number
  /** By their start, the oldest first. */
  running: Set<{ startMs: number }>
  /** As last written; unknown at first: another process may have left anything. */
  window: number | undefined
  slowUntilMs: number
}

export function createHealth(params: {
  /** What a destination may come to hold in its lane. */
  share: (lane: 'normal' | 'quarantine') => number
  /** Whether it has hints waiting for a socket. */
  isCrowded: (id: DestinationId) => boolean
  monotonicMs: () => number
}): Health {
  const { monotonicMs } = params
  const entries = new Map<DestinationId, Entry>()
  /** With an attempt since they were last judged, or one under way. */
  const active = new Set<Entry>()
  /** Judged, and not yet written. */
  const owed = new Set<Entry>()

  function entryOf(id: DestinationId): Entry {
    let entry = entries.get(id)
    if (entry === undefined) {
      entry = newEntry(id, monotonicMs())
      entries.set(id, entry)
      if (entries.size > destinationsMax) forgetOne()
    }
    return entry
  }

  /** The oldest that nothing is known to be under way for; there are fewer attempts than entries. */
  function forgetOne(): void {
    for (const [id, entry] of entries) {
      if (entry.running.size > 0 || active.has(entry) || owed.has(entry)) continue
      entries.delete(id)
      return
    }
  }

  function judge(entry: Entry, nowMs: number): Pace | undefined {
    const wasSlow = entry.slowUntilMs > nowMs
    const [oldest] = entry.running
    const ageMs = oldest === undefined ? 0 : nowMs - oldest.startMs
    const hangs = ageMs > hangMs && (wasSlow || params.isCrowded(entry.id))
    // What hasn't ended yet takes this long at least; or a window would go by the days when all was well.
    if (hangs) entry.averageMs = Math.max(entry.averageMs, ageMs)
    const slow = hangs || entry.averageMs > entry.timeoutMs * (wasSlow ? slowPartEnd : slowPart)

    countRate(entry, nowMs)
    const window = windowOf(entry, slow)
    const lapses = slow && entry.slowUntilMs - nowMs < renewBeforeMs
    const changes =
      entry.attempts >= attemptsMin &&
      (entry.window === undefined || window >= 2 * entry.window || 2 * window <= entry.window)
    if (slow === wasSlow && !lapses && !changes) return undefined
    return { destinationId: entry.id, window, slowForMs: slow ? slowForMs : 0 }
  }

  function countRate(entry: Entry, nowMs: number): void {
    const passedMs = nowMs - entry.countedMs
    if (passedMs < rateEveryMs) return
    entry.perSecond += rateWeight * ((entry.ended * 1_000) / passedMs - entry.perSecond)
    entry.countedMs = nowMs
    entry.ended = 0
  }

  function windowOf({ averageMs, perSecond }: Entry, slow: boolean): number {
    const share = params.share(slow ? 'quarantine' : 'normal')
    const could = (share * windowMs) / Math.max(1, averageMs)
    const does = Math.max(windowUsual, (perSecond * doneMs) / 1_000)
    return Math.min(windowMax, Math.max(windowShares * share, Math.round(Math.min(could, does))))
  }

  return {
    begin(destinationId, timeoutMs) {
      const entry = entryOf(destinationId)
      const attempt = { startMs: monotonicMs() }
      entry.timeoutMs = timeoutMs
      entry.running.add(attempt)
      active.add(entry)
      return {
        end(durationMs) {
          if (!entry.running.delete(attempt)) return
          active.add(entry)
          if (durationMs === undefined) return
          entry.ended += 1
          entry.attempts += 1
          entry.averageMs += Math.max(weight, 1 / entry.attempts) * (durationMs - entry.averageMs)
        },
      }
    },
    due(max) {
      const nowMs = monotonicMs()
      for (const entry of owed) active.add(entry)
      owed.clear()
      const due: Pace[] = []
      for (const entry of active) {
        if (due.length === max) break
        if (entry.running.size === 0) active.delete(entry)
        const pace = judge(entry, nowMs)
        if (pace === undefined) continue
        owed.add(entry)
        due.push(pace)
      }
      return due
    },
    wrote(paces) {
      const nowMs = monotonicMs()
      for (const { destinationId, window, slowForMs: forMs } of paces) {
        const entry = entries.get(destinationId)
        if (entry === undefined) continue
        owed.delete(entry)
        entry.window = window
        entry.slowUntilMs = nowMs + forMs
      }
    },
  }
}

function newEntry(id: DestinationId, nowMs: number): Entry {
  return {
    id,
    timeoutMs: 0,
    averageMs: 0,
    attempts: 0,
    ended: 0,
    countedMs: nowMs,
    perSecond: 0,
    running: new Set(),
    window: undefined,
    slowUntilMs: -Infinity,
  }
}
