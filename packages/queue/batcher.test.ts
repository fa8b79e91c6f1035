import { describe, expect, it, vi } from 'vitest'
import { createBatcher } from './batcher.ts'

/** A batcher of numbers whose batches are sent one by one by the test. */
function heldBatcher(bounds: { heldMax: number; batchMax: number }) {
  const sent: { batch: readonly number[]; end: (ok: readonly boolean[]) => void }[] = []
  const batcher = createBatcher<number>({
    ...bounds,
    intervalMs: () => 0,
    send: (batch) => new Promise((end) => sent.push({ batch, end })),
  })
  const batch = async (n: number) => {
    await vi.waitUntil(() => sent.length > n, { interval: 1 })
    return sent[n] ?? expect.unreachable()
  }
  return { ...batcher, batch, sent }
}

describe('batcher', () => {
  it('sends what is pushed in one turn as one batch', async () => {
    const { push, batch } = heldBatcher({ heldMax: 10, batchMax: 10 })
    void push([1])
    void push([2, 3])
    expect((await batch(0)).batch).toEqual([1, 2, 3])
  })

  it('sends what came meanwhile as the next batch, one at a time, in order, within its bound', async () => {
    const { push, batch, sent } = heldBatcher({ heldMax: 10, batchMax: 2 })
    void push([1])
    const first = await batch(0)
    void push([2])
    void push([3, 4])
    expect(sent).toHaveLength(1)
    first.end([true])
    const second = await batch(1)
    expect(second.batch).toEqual([2, 3])
    second.end([true, true])
    expect((await batch(2)).batch).toEqual([4])
  })

  it('tells each push whether its own entries were sent well', async () => {
    const { push, batch } = heldBatcher({ heldMax: 10, batchMax: 10 })
    const pushes = [push([1, 2]), push([3]), push([])]
    ;(await batch(0)).end([true, false, true])
    expect(await Promise.all(pushes)).toEqual([false, true, true])
  })

  it('answers a push that spans batches by all of them', async () => {
    const { push, batch } = heldBatcher({ heldMax: 10, batchMax: 2 })
    const pushed = push([1, 2, 3])
    ;(await batch(0)).end([true, false])
    ;(await batch(1)).end([true])
    expect(await pushed).toBe(false)
  })

  it('refuses a push there is no room for, whole, and takes the next that fits', async () => {
    const { push, batch, held } = heldBatcher({ heldMax: 3, batchMax: 10 })
    void push([1])
    await batch(0)
    void push([2, 3])
    expect(await push([4, 5])).toBe(false)
    expect(held()).toBe(2)
    void push([6])
    expect(held()).toBe(3)
  })

  it('starts batches no closer to each other than its interval, without making the first wait', async () => {
    const starts: number[] = []
    const { push } = createBatcher<number>({
      heldMax: 100,
      batchMax: 100,
      intervalMs: () => 30,
      send: async (batch) => {
        starts.push(performance.now())
        return batch.map(() => true)
      },
    })
    const from = performance.now()
    await push([1])
    expect(performance.now() - from).toBeLessThan(25)
    await Promise.all([push([2]), push([3])])
    await push([4])
    expect(starts).toHaveLength(3)
    expect((starts[1] ?? 0) - (starts[0] ?? 0)).toBeGreaterThan(28)
    expect((starts[2] ?? 0) - (starts[1] ?? 0)).toBeGreaterThan(28)
  })

  it('is drained when nothing is held or on its way', async () => {
    const { push, batch, drained } = heldBatcher({ heldMax: 10, batchMax: 1 })
    await drained()
    void push([1, 2])
    const ended: string[] = []
    const done = drained().then(() => ended.push('drained'))
    ;(await batch(0)).end([true])
    const second = await batch(1)
    expect(ended).toEqual([])
    second.end([true])
    await done
  })
})
