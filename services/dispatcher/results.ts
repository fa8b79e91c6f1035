import { setTimeout as delay } from 'node:timers/promises'
import type { DeliveryId } from '@tenterhook/schemas/ids'
import type { AttemptResult, Recorded } from '@tenterhook/store/results'

/**
 * Owns the results whose COMMIT is not known yet. They are written in batches, never two of one delivery together, and
 * tried again until Postgres has them: forgetting one would send its delivery again.
 */
export interface Results {
  /** The delivery's new state; undefined when the result changed nothing (a stale failure, a second success). */
  record(result: AttemptResult): Promise<Recorded | undefined>
  /** Waits for what is held, until the signal. */
  stop(signal: AbortSignal): Promise<void>
}

const batchMax = 100
const batchesInFlightMax = 2
/** A batch beside another is worth its cost from here on; fewer wait for the other's end. */
const besideMin = 16
const retryWaitMs = 250

interface Held {
  result: AttemptResult
  resolve: (recorded: Recorded | undefined) => void
}

export function createResults(params: {
  record: (results: readonly AttemptResult[]) => Promise<Recorded[]>
  onFailed: (error: unknown, results: number) => void
}): Results {
  const held: Held[] = []
  /** Deliveries of the batches under way. */
  const writing = new Set<DeliveryId>()
  let inFlight = 0
  let planned = false
  let idle: PromiseWithResolvers<void> | undefined

  function plan(): void {
    if (planned || !mayWrite()) return
    planned = true
    setImmediate(() => {
      planned = false
      while (mayWrite()) {
        const batch = takeBatch()
        if (batch.length === 0) return
        void write(batch)
      }
    })
  }

  function mayWrite(): boolean {
    return held.length > 0 && (inFlight === 0 || (inFlight < batchesInFlightMax && held.length >= besideMin))
  }

  function takeBatch(): Held[] {
    const batch: Held[] = []
    for (let i = 0; i < held.length && batch.length < batchMax;) {
      const one = held[i]
      if (!one || writing.has(one.result.id)) {
        i += 1
        continue
      }
      writing.add(one.result.id)
      batch.push(one)
      held.splice(i, 1)
    }
    return batch
  }

  async function write(batch: readonly Held[]): Promise<void> {
    inFlight += 1
    for (;;) {
      try {
        const recorded = new Map((await params.record(batch.map((one) => one.result))).map((one) => [one.id, one]))
        for (const one of batch) one.resolve(recorded.get(one.result.id))
        break
      } catch (error) {
        params.onFailed(error, batch.length)
        await delay(retryWaitMs)
      }
    }
    for (const one of batch) writing.delete(one.result.id)
    inFlight -= 1
    if (inFlight === 0 && held.length === 0) idle?.resolve()
    plan()
  }

  return {
    record: (result) =>
      new Promise((resolve) => {
        held.push({ result, resolve })
        plan()
      }),
    async stop(signal) {
      if (inFlight === 0 && held.length === 0) return
      idle = Promise.withResolvers()
      signal.addEventListener('abort', () => idle?.resolve(), { once: true })
      await idle.promise
    },
  }
}
