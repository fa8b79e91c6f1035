/**
 * Collects what is added while an earlier batch is on its way, or within an interval of its start, and
 * sends it as the next one: no wait when idle, larger batches under load, one batch on its way at a time.
 * Holds at most `heldMax`; what comes beyond is refused.
 */
export type Batcher<T> = Readonly<{
  /** Resolves true when every entry was sent well; false when one wasn't, at once when there is no room for all. */
  push(entries: readonly T[]): Promise<boolean>
  held(): number
  /** Resolves when nothing is held or on its way. */
  drained(): Promise<void>
}>

type Push = { left: number; ok: boolean; done: (ok: boolean) => void }

/** `send` answers for each entry, in order, whether it was sent well; it must not reject. */
export function createBatcher<T>(params: {
  heldMax: number
  batchMax: number
  /** From the start of a batch to the start of the next, by the entries it holds. */
  intervalMs: (entries: number) => number
  send: (batch: readonly T[]) => Promise<readonly boolean[]>
}): Batcher<T> {
  const held: { entry: T; push: Push }[] = []
  let running: Promise<void> | undefined

  async function run(): Promise<void> {
    // The rest of this turn of the event loop may add more: one batch instead of many.
    await new Promise((resolve) => setImmediate(resolve))
    while (held.length > 0) {
      const batch = held.splice(0, params.batchMax)
      const interval = new Promise((resolve) => setTimeout(resolve, params.intervalMs(batch.length)))
      const sent = await params.send(batch.map(({ entry }) => entry))
      for (const [i, { push }] of batch.entries()) {
        if (sent[i] !== true) push.ok = false
        push.left -= 1
        if (push.left === 0) push.done(push.ok)
      }
      await interval
    }
    running = undefined
  }

  return {
    push(entries) {
      if (entries.length === 0) return Promise.resolve(true)
      if (held.length + entries.length > params.heldMax) return Promise.resolve(false)
      return new Promise((done) => {
        const push: Push = { left: entries.length, ok: true, done }
        for (const entry of entries) held.push({ entry, push })
        running ??= run()
      })
    },
    held: () => held.length,
    drained: () => running ?? Promise.resolve(),
  }
}
