import { randomUUID } from 'node:crypto'
import type { DeliveryId } from '@tenterhook/schemas/ids'
import type { Leased, Refused } from '@tenterhook/store/lease'

/**
 * Owns the wish for leases that gathered in one turn of the event loop, so that many jobs cost one statement.
 * A delivery that is asked for twice at once (by a job and by the sweep) is asked for once: the second gets nothing.
 */
export interface Leases {
  /** Rejects when Postgres can't say; then nothing is sent. */
  take(id: DeliveryId, generation: number): Promise<LeaseAnswer>
}

export type LeaseAnswer =
  | { kind: 'leased'; leased: Leased }
  /** It stays admitted: its destination's rate allows another after `waitMs`; null: once an attempt of it is over. */
  | { kind: 'refused'; waitMs: number | null }
  /** Not to be sent under this admission: drop the hint. */
  | { kind: 'stale' }

const batchMax = 100
const batchesInFlightMax = 3
/** A batch beside another is worth its cost from here on; fewer wait for the other's end. */
const besideMin = 16

interface Wish {
  id: DeliveryId
  generation: number
  token: string
  resolve: (answer: LeaseAnswer) => void
  reject: (error: unknown) => void
}

export function createLeases(
  lease: (
    wanted: ReadonlyArray<{ id: DeliveryId; generation: number; token: string }>,
  ) => Promise<{ leased: Leased[]; refused: Refused[] }>,
): Leases {
  const wishes: Wish[] = []
  const wanted = new Set<string>()
  let inFlight = 0
  let planned = false

  function plan(): void {
    if (planned || !mayAsk()) return
    planned = true
    setImmediate(() => {
      planned = false
      while (mayAsk()) void ask(wishes.splice(0, batchMax))
    })
  }

  function mayAsk(): boolean {
    return wishes.length > 0 && (inFlight === 0 || (inFlight < batchesInFlightMax && wishes.length >= besideMin))
  }

  async function ask(batch: readonly Wish[]): Promise<void> {
    inFlight += 1
    try {
      const { leased, refused } = await lease(batch)
      const granted = new Map(leased.map((one) => [one.token, one]))
      const waits = new Map(refused.map((one) => [admissionOf(one), one.waitMs]))
      for (const wish of batch) wish.resolve(answerTo(granted.get(wish.token), waits.get(admissionOf(wish))))
    } catch (error) {
      for (const wish of batch) wish.reject(error)
    } finally {
      for (const wish of batch) wanted.delete(admissionOf(wish))
      inFlight -= 1
      plan()
    }
  }

  return {
    take(id, generation) {
      const admission = admissionOf({ id, generation })
      if (wanted.has(admission)) return Promise.resolve({ kind: 'stale' })
      wanted.add(admission)
      return new Promise((resolve, reject) => {
        wishes.push({ id, generation, token: randomUUID(), resolve, reject })
        plan()
      })
    },
  }
}

function answerTo(leased: Leased | undefined, waitMs: number | null | undefined): LeaseAnswer {
  if (leased !== undefined) return { kind: 'leased', leased }
  return waitMs === undefined ? { kind: 'stale' } : { kind: 'refused', waitMs }
}

function admissionOf({ id, generation }: { id: DeliveryId; generation: number }): string {
  return `${id} ${generation}`
}
