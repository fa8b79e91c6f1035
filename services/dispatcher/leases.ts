import { randomUUID } from 'node:crypto'
import type { DeliveryId } from '@tenterhook/schemas/ids'
import type { Leased } from '@tenterhook/store/lease'

/**
 * Owns the wish for leases that gathered in one turn of the event loop, so that many jobs cost one statement.
 * A delivery that is asked for twice at once (by a job and by the sweep) is asked for once: the second gets nothing.
 */
export interface Leases {
  /** The lease, or undefined when the delivery is not to be sent now: drop the job. Rejects when Postgres can't say; then nothing is sent. */
  take(id: DeliveryId, generation: number): Promise<Leased | undefined>
}

const batchMax = 100
const batchesInFlightMax = 3
/** A batch beside another is worth its cost from here on; fewer wait for the other's end. */
const besideMin = 16

interface Wish {
  id: DeliveryId
  generation: number
  token: string
  resolve: (leased: Leased | undefined) => void
  reject: (error: unknown) => void
}

export function createLeases(
  lease: (wanted: ReadonlyArray<{ id: DeliveryId; generation: number; token: string }>) => Promise<Leased[]>,
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
      const leased = new Map((await lease(batch)).map((one) => [one.token, one]))
      for (const wish of batch) wish.resolve(leased.get(wish.token))
    } catch (error) {
      for (const wish of batch) wish.reject(error)
    } finally {
      for (const wish of batch) wanted.delete(`${wish.id} ${wish.generation}`)
      inFlight -= 1
      plan()
    }
  }

  return {
    take(id, generation) {
      const admission = `${id} ${generation}`
      if (wanted.has(admission)) return Promise.resolve(undefined)
      wanted.add(admission)
      return new Promise((resolve, reject) => {
        wishes.push({ id, generation, token: randomUUID(), resolve, reject })
        plan()
      })
    },
  }
}
