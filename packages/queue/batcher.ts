/**
 * Collects what is added while an earlier batch is on its way and sends it as the next one: no wait
 * when idle, larger batches under load. Holds at most `heldMax`; what comes beyond is refused, not kept.
 */
export type Batcher<T> = Readonly<{
  /** Resolves true when every one was sent, false when any was refused or failed. Never rejects. */
  push(entries: readonly T[]): Promise<boolean>
  held(): number
  /** Resolves when nothing is held or on its way. */
  drained(): Promise<void>
}>

type Call = { left: number; ok: boolean; done: (ok: boolean) => void }

export function createBatcher<T>(params: { heldMax: number; batchMax: number; send: (batch: readonly T[]) => Promise<boolean> }): Batcher<T> {
  let entries: T[] = []
  let calls: Call[] = []
  let running: Promise<void> | undefined

  async function run(): Promise<void> {
    // The rest of this turn of the event loop may add more: one batch instead of many.
    await new Promise((resolve) => setImmediate(resolve))
    while (entries.length > 0) {
      const batch = entries.slice(0, params.batchMax)
      const owners = calls.slice(0, params.batchMax)
      entries = entries.slice(params.batchMax)
      calls = calls.slice(params.batchMax)
      const ok = await params.send(batch)
      for (const call of owners) {
        call.ok &&= ok
        call.left -= 1
        if (call.left === 0) call.done(call.ok)
      }
    }
    running = undefined
  }

  return {
    push(added) {
      if (added.length === 0) return Promise.resolve(true)
      if (entries.length + added.length > params.heldMax) return Promise.resolve(false)
      return new Promise((done) => {
        const call: Call = { left: added.length, ok: true, done }
        for (const entry of added) {
          entries.push(entry)
          calls.push(call)
        }
        running ??= run()
      })
    },
    held: () => entries.length,
    drained: () => running ?? Promise.resolve(),
  }
}
