/**
 * Owns the sockets that may be in use at once (I10). A lease is taken only when one is free, so that no lease ages
 * while its delivery waits.
 */
export interface Slots {
  take(): Promise<void>
  give(): void
  free(): number
  /** Resolves when none is in use, or when the signal aborts. */
  drained(signal: AbortSignal): Promise<void>
}

export function createSlots(count: number): Slots {
  let used = 0
  const waiting: Array<() => void> = []
  const empty: Array<() => void> = []
  return {
    take() {
      if (used < count) {
        used += 1
        return Promise.resolve()
      }
      return new Promise((resolve) => waiting.push(resolve))
    },
    give() {
      const next = waiting.shift()
      if (next) next()
      else used -= 1
      if (used === 0) empty.splice(0).forEach((resolve) => resolve())
    },
    free: () => count - used,
    drained(signal) {
      if (used === 0 || signal.aborted) return Promise.resolve()
      return new Promise((resolve) => {
        empty.push(resolve)
        signal.addEventListener('abort', () => resolve(), { once: true })
      })
    },
  }
}
