/**
 * Room for a number of handlers at once. Takers queue in order. Closed, it turns everyone away, those in
 * the queue too; held, it lets nobody in but keeps the queue.
 */
export type Slots = Readonly<{
  /** Resolves true with a slot taken, false when closed. */
  take(): Promise<boolean>
  free(): void
  taken(): number
  hold(): void
  letGo(): void
  close(): void
  /** Resolves when no slot is taken. */
  idle(): Promise<void>
}>

export function createSlots(max: number): Slots {
  const queue: ((taken: boolean) => void)[] = []
  let watchers: (() => void)[] = []
  let taken = 0
  let held = false
  let closed = false

  function admit(): void {
    while (!held && taken < max) {
      const next = queue.shift()
      if (next === undefined) return
      taken += 1
      next(true)
    }
  }

  return {
    async take() {
      if (closed) return false
      if (!held && taken < max && queue.length === 0) {
        taken += 1
        return true
      }
      return new Promise((resolve) => queue.push(resolve))
    },
    free() {
      taken -= 1
      admit()
      if (taken > 0) return
      for (const done of watchers) done()
      watchers = []
    },
    taken: () => taken,
    hold() {
      held = true
    },
    letGo() {
      held = false
      admit()
    },
    close() {
      closed = true
      for (const turnedAway of queue.splice(0)) turnedAway(false)
    },
    idle: () => (taken === 0 ? Promise.resolve() : new Promise((done) => watchers.push(done))),
  }
}
