/**
 * How many leases may be asked for of a destination whose limits have refused one: asking for more than it grants costs
 * Postgres a lock for each. Owns what was learnt from refusals, and the timers to the next asking; forgets a destination
 * when it refuses no more, or when nothing waits for it. The limits themselves are kept by the lease statement.
 *
 * A refusal closes a destination: by rate until Postgres says it has room, by concurrency until an attempt is over, here or
 * at another copy. Then it is asked for as many as it granted the last time (half as many as it was asked for, should it have
 * granted none), and for twice as many in each round that refuses none, so that a burst and a trickle are both found soon.
 */
import type { DestinationId } from '@tenterhook/schemas/ids'

export interface Limits {
  mayAsk(id: DestinationId): boolean
  /** A lease is being asked for; one of the three below follows. */
  asked(id: DestinationId): void
  granted(id: DestinationId): void
  /** `waitMs` until its rate allows another; null when as many are under way as may be. */
  refused(id: DestinationId, waitMs: number | null): void
  /** It was not to be sent any more, or Postgres couldn't say. */
  unanswered(id: DestinationId): void
  /** An attempt is over. */
  ended(id: DestinationId): void
}

/** Attempts may end at another copy, and limits may be raised: a destination is asked for again after so long. */
const concurrencyWaitMs = 100
const rateWaitMsMax = 2_000
/** More than any destination's share of sockets. */
const permitsMax = 256

interface Limit {
  /** Leases that may be asked for now. */
  permits: number
  /** Since it was opened last, with how many permits. */
  granted: number
  openedWith: number
  byConcurrency: boolean
  /** While it is closed. */
  timer: NodeJS.Timeout | undefined
}

export function createLimits(params: {
  /** Asked when a destination is opened: whether anything waits for it. */
  waits: (id: DestinationId) => boolean
  /** There may be a lease to ask for. */
  onRoom: (id: DestinationId) => void
}): Limits {
  const limits = new Map<DestinationId, Limit>()

  function open(id: DestinationId, limit: Limit): void {
    limit.timer = undefined
    if (!params.waits(id)) {
      limits.delete(id)
      return
    }
    // One that was asked a moment too early has granted none, and is to grant what it did before.
    limit.openedWith = Math.max(1, limit.granted > 0 ? limit.granted : Math.floor(limit.openedWith / 2))
    limit.permits = limit.openedWith
    limit.granted = 0
    params.onRoom(id)
  }

  return {
    mayAsk: (id) => limits.size === 0 || (limits.get(id)?.permits ?? 1) > 0,
    asked(id) {
      const limit = limits.size > 0 && limits.get(id)
      if (limit) limit.permits -= 1
    },
    granted(id) {
      const limit = limits.size > 0 && limits.get(id)
      if (!limit) return
      limit.granted += 1
      if (limit.timer !== undefined) return
      // Its own place, and one more.
      limit.permits = Math.min(permitsMax, limit.permits + 2)
      if (params.waits(id)) params.onRoom(id)
      else limits.delete(id)
    },
    refused(id, waitMs) {
      let limit = limits.get(id)
      if (limit === undefined) {
        limit = { permits: 0, granted: 0, openedWith: 1, byConcurrency: false, timer: undefined }
        limits.set(id, limit)
      }
      limit.permits = 0
      limit.byConcurrency = waitMs === null
      // The first of a batch closes it, the others say the same.
      const closedMs = waitMs === null ? concurrencyWaitMs : Math.min(Math.max(1, Math.ceil(waitMs)), rateWaitMsMax)
      limit.timer ??= setTimeout(open, closedMs, id, limit).unref()
    },
    unanswered(id) {
      const limit = limits.size > 0 && limits.get(id)
      if (limit && (limit.timer === undefined || limit.byConcurrency)) limit.permits += 1
    },
    ended(id) {
      const limit = limits.size > 0 && limits.get(id)
      if (!limit || !limit.byConcurrency) return
      limit.permits += 1
      params.onRoom(id)
    },
  }
}
