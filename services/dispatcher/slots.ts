/**
 * Owns the sockets that may be in use at once (I10), and the hints that wait for one. A lease is taken only with a slot
 * in hand, so that no lease ages while its delivery waits.
 *
 * S1. Never more slots in use than there are, in no lane more than the lane has: retries and quarantine can't take
 *     what first tries run on.
 * S2. A destination holds at most a tenth of all, and in a lane at most a quarter of what is free there, one at least:
 *     the threshold falls as the lane fills, so destinations that hang settle where some is still free, however many
 *     they are (dynamic threshold: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998).
 * S3. A hint whose destination is at its share is parked: it waits here, by its id alone, and its job is done with. A
 *     hint that finds its lane full keeps its caller waiting instead: what nobody can send is better left in the queue.
 * S4. A slot that comes free goes to the destinations that wait for one in turn, and within one to the oldest hint.
 * S5. A hint whose lease was refused gives its slot back and is parked; its destination's limits say when it goes again.
 */
import type { DeliveryId, DestinationId } from '@tenterhook/schemas/ids'
import { lanes, type Lane } from '@tenterhook/schemas/states'
import { createLimits } from './limits.ts'

/** An admitted delivery that may be leased, if it still is admitted. */
export interface Hint {
  id: DeliveryId
  generation: number
  destinationId: DestinationId
  lane: Lane
}

export interface Slots {
  /** Resolves when the hint needs its caller no more: `go` is through with it, or it is parked. */
  offer(hint: Hint): Promise<void>
  free(lane: Lane): number
  /** Whether this very admission waits here already. */
  waits(hint: Hint): boolean
  waiting(lane: Lane): number
  /** Whether hints of this destination wait, and for nothing but a slot. */
  isCrowded(destinationId: DestinationId): boolean
  /**
   * Takes out what has been parked for too long, the oldest first: for `stuckMs` while none of its destination went, or for
   * `anyMs` though some did.
   */
  takeParked(limits: { stuckMs: number; anyMs: number }): Hint[]
  /** Takes out all that waits; what is offered from now on is left to others. */
  close(): Hint[]
  /** Resolves when no slot is in use, or when the signal aborts. */
  drained(signal: AbortSignal): Promise<void>
}

/** In the hands of one hint: `leased`, then `give` when its attempt is over; or one of the other two, which give it back. */
export interface Slot {
  leased(): void
  give(): void
  /** The destination is at its limits: `waitMs` until its rate allows another, null when an attempt must end first. */
  refused(waitMs: number | null): void
  /** There was no lease to be had. */
  stale(): void
}

export interface SlotsParams {
  /** Sockets in all, three at least. */
  sockets: number
  /** Asks for the lease and sees to the attempt. What it returns ends when the lease was answered, and never rejects. */
  go: (hint: Hint, slot: Slot) => Promise<void>
  monotonicMs: () => number
}

const partOfLane = { retry: 0.15, quarantine: 0.15 }
const partOfAll = 0.1
const partOfFree = 0.25
/** As many as may be admitted in all: no hint is turned away while the window and the bound hold. */
const waitingMax = 50_000

/** Of all sockets, what each lane may use; each has one at least. */
export function laneSockets(sockets: number): Record<Lane, number> {
  const retry = Math.max(1, Math.floor(sockets * partOfLane.retry))
  const quarantine = Math.max(1, Math.floor(sockets * partOfLane.quarantine))
  return { normal: sockets - retry - quarantine, retry, quarantine }
}

/** What a destination may hold of all sockets. */
export function shareOfAll(sockets: number): number {
  return Math.max(1, Math.floor(sockets * partOfAll))
}

/** What a destination comes to hold that has a lane to itself: where used = ¼ × (all − used). */
export function loneShare(sockets: number, lane: Lane): number {
  const alone = Math.floor((laneSockets(sockets)[lane] * partOfFree) / (1 + partOfFree))
  return Math.max(1, Math.min(shareOfAll(sockets), alone))
}

interface Waiting {
  hint: Hint
  sinceMs: number
  /** Lets go the caller of a hint that found its lane full. */
  release: (() => void) | undefined
}

/** A destination in a lane: forgotten when it neither holds nor waits for anything. */
interface Place {
  destinationId: DestinationId
  used: number
  queue: Waiting[]
  /** When it took a slot last. */
  tookMs: number
}

interface LaneState {
  free: number
  places: Map<DestinationId, Place>
  /** With hints that wait, in the order of their turns. */
  crowd: Set<Place>
  waiting: number
  /** Whose callers wait: only ever while nothing is free. */
  kept: Set<Waiting>
}

export function createSlots({ sockets, go, monotonicMs }: SlotsParams): Slots {
  const size = laneSockets(sockets)
  const all = shareOfAll(sockets)
  const state: Record<Lane, LaneState> = {
    normal: emptyLane(size.normal),
    retry: emptyLane(size.retry),
    quarantine: emptyLane(size.quarantine),
  }
  /** Slots by destination, over all lanes. */
  const held = new Map<DestinationId, number>()
  /** Oldest first. */
  const waiting = new Map<string, Waiting>()
  let used = 0
  let closed = false
  const idle: (() => void)[] = []
  const limits = createLimits({ waits: waitsFor, onRoom: serveAll })

  function placeOf(lane: LaneState, destinationId: DestinationId): Place {
    let place = lane.places.get(destinationId)
    if (place === undefined) {
      place = { destinationId, used: 0, queue: [], tookMs: 0 }
      lane.places.set(destinationId, place)
    }
    return place
  }

  /** S1, S2 and S5. */
  function mayTake(lane: LaneState, place: Place): boolean {
    if (lane.free === 0) return false
    if (place.used >= Math.max(1, Math.floor(lane.free * partOfFree))) return false
    return (held.get(place.destinationId) ?? 0) < all && limits.mayAsk(place.destinationId)
  }

  function take(lane: LaneState, place: Place, hint: Hint): Promise<void> {
    const { destinationId } = place
    lane.free -= 1
    place.used += 1
    place.tookMs = monotonicMs()
    used += 1
    held.set(destinationId, (held.get(destinationId) ?? 0) + 1)
    limits.asked(destinationId)
    return go(hint, {
      leased: () => limits.granted(destinationId),
      give() {
        limits.ended(destinationId)
        give(lane, place)
      },
      refused(waitMs) {
        limits.refused(destinationId, waitMs)
        if (!closed) putBack(lane, place, hint)
        give(lane, place)
      },
      stale() {
        limits.unanswered(destinationId)
        give(lane, place)
      },
    })
  }

  function give(lane: LaneState, place: Place): void {
    const { destinationId } = place
    lane.free += 1
    place.used -= 1
    used -= 1
    const left = (held.get(destinationId) ?? 1) - 1
    if (left > 0) held.set(destinationId, left)
    else held.delete(destinationId)
    serve(lane)
    // It may have been at its share of all.
    serveAll(destinationId)
    forgetIfUnused(lane, place)
    if (used === 0) idle.splice(0).forEach((resolve) => resolve())
  }

  function waitsFor(destinationId: DestinationId): boolean {
    return lanes.some((lane) => (state[lane].places.get(destinationId)?.queue.length ?? 0) > 0)
  }

  /** Wherever this destination waits. */
  function serveAll(destinationId: DestinationId): void {
    if (waiting.size === 0) return
    for (const lane of lanes) if (state[lane].places.get(destinationId)?.queue.length) serve(state[lane])
  }

  /** S4. What may not go now may not either when others have gone: one round finds all. */
  function serve(lane: LaneState): void {
    for (const place of lane.crowd) {
      if (lane.free === 0) return
      if (!mayTake(lane, place)) continue
      const [next] = place.queue
      if (next === undefined) continue
      // To the end of the line, where this round comes by again.
      remove(lane, place, next)
      if (lane.crowd.delete(place)) lane.crowd.add(place)
      const gone = take(lane, place, next.hint)
      if (next.release !== undefined) void gone.then(next.release)
    }
    if (lane.free === 0) return
    // There is room, and none for these: their destinations are at their shares, so they are parked (S3).
    for (const one of lane.kept) one.release?.()
    lane.kept.clear()
  }

  function wait(lane: LaneState, place: Place, hint: Hint): Promise<void> {
    if (waiting.size >= waitingMax) return Promise.resolve()
    const one = park(lane, place, hint, place.queue.length)
    if (lane.free > 0) return Promise.resolve()
    lane.kept.add(one)
    return new Promise((resolve) => {
      one.release = resolve
    })
  }

  /** Before those that came after it: ids are in the order of acceptance. */
  function putBack(lane: LaneState, place: Place, hint: Hint): void {
    const later = place.queue.findIndex((one) => one.hint.id > hint.id)
    park(lane, place, hint, later < 0 ? place.queue.length : later)
  }

  function park(lane: LaneState, place: Place, hint: Hint, at: number): Waiting {
    const one: Waiting = { hint, sinceMs: monotonicMs(), release: undefined }
    waiting.set(keyOf(hint), one)
    place.queue.splice(at, 0, one)
    lane.crowd.add(place)
    lane.waiting += 1
    return one
  }

  function remove(lane: LaneState, place: Place, one: Waiting): void {
    waiting.delete(keyOf(one.hint))
    if (place.queue[0] === one) place.queue.shift()
    else place.queue.splice(place.queue.indexOf(one), 1)
    lane.kept.delete(one)
    lane.waiting -= 1
    if (place.queue.length === 0) lane.crowd.delete(place)
  }

  function takeOut(one: Waiting): Hint {
    const lane = state[one.hint.lane]
    const place = placeOf(lane, one.hint.destinationId)
    remove(lane, place, one)
    forgetIfUnused(lane, place)
    one.release?.()
    return one.hint
  }

  function forgetIfUnused(lane: LaneState, place: Place): void {
    if (place.used === 0 && place.queue.length === 0) lane.places.delete(place.destinationId)
  }

  return {
    offer(hint) {
      if (closed || (waiting.size > 0 && waiting.has(keyOf(hint)))) return Promise.resolve()
      const lane = state[hint.lane]
      const place = placeOf(lane, hint.destinationId)
      return mayTake(lane, place) ? take(lane, place, hint) : wait(lane, place, hint)
    },
    free: (lane) => state[lane].free,
    waits: (hint) => waiting.has(keyOf(hint)),
    waiting: (lane) => state[lane].waiting,
    isCrowded: (destinationId) => waitsFor(destinationId) && limits.mayAsk(destinationId),
    takeParked({ stuckMs, anyMs }) {
      const nowMs = monotonicMs()
      const taken: Hint[] = []
      for (const one of waiting.values()) {
        const waitedMs = nowMs - one.sinceMs
        if (waitedMs < stuckMs) break
        const lane = state[one.hint.lane]
        if (lane.kept.has(one)) continue
        const { tookMs } = placeOf(lane, one.hint.destinationId)
        if (waitedMs >= anyMs || nowMs - tookMs >= stuckMs) taken.push(takeOut(one))
      }
      return taken
    },
    close() {
      closed = true
      return Array.from(waiting.values(), takeOut)
    },
    drained(signal) {
      if (used === 0 || signal.aborted) return Promise.resolve()
      return new Promise((resolve) => {
        idle.push(resolve)
        signal.addEventListener('abort', () => resolve(), { once: true })
      })
    },
  }
}

function emptyLane(free: number): LaneState {
  return { free, places: new Map(), crowd: new Set(), waiting: 0, kept: new Set() }
}

function keyOf({ id, generation }: Hint): string {
  return `${id} ${generation}`
}
