import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { admittedMax, createRoom } from './room.ts'

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
afterEach(() => void vi.useRealTimers())

/** A room over counts that the test ends. */
function heldRoom() {
  const counts: { end: (n: number) => Promise<void>; fail: () => Promise<void> }[] = []
  const failures: unknown[] = []
  const room = createRoom({
    count: () => {
      const { promise, resolve, reject } = Promise.withResolvers<number>()
      counts.push({
        end: async (n) => {
          resolve(n)
          await vi.advanceTimersByTimeAsync(0)
        },
        fail: async () => {
          reject(new Error('connection lost'))
          await vi.advanceTimersByTimeAsync(0)
        },
      })
      return promise
    },
    onFailed: (error) => failures.push(error),
  })
  return { room, counts, failures }
}

describe('room in the queues', () => {
  it('is unknown before the first count, which who admits waits for and who routes does not', async () => {
    const { room, counts } = heldRoom()
    expect(room.known()).toBe(admittedMax)
    const free = room.free()
    expect(counts).toHaveLength(1)
    await counts[0]?.end(10)
    expect(await free).toBe(admittedMax - 10)
    expect(room.known()).toBe(admittedMax - 10)
  })

  it('shrinks with what is admitted, also while a count is under way', async () => {
    const { room, counts } = heldRoom()
    const free = room.free()
    room.took(7)
    await counts[0]?.end(10)
    expect(await free).toBe(admittedMax - 17)
    room.took(3)
    expect(await room.free()).toBe(admittedMax - 20)
  })

  it('is counted once a second at most, and only when asked for', async () => {
    const { room, counts } = heldRoom()
    void room.free()
    await counts[0]?.end(0)
    for (let i = 0; i < 10; i++) await room.free()
    await vi.advanceTimersByTimeAsync(5_000)
    expect(counts).toHaveLength(1)
    room.known()
    room.known()
    expect(counts).toHaveLength(2)
  })

  it('that is used up lets who admits wait for the next count', async () => {
    const { room, counts } = heldRoom()
    void room.free()
    await counts[0]?.end(admittedMax)
    const free = room.free()
    await vi.advanceTimersByTimeAsync(999)
    expect(counts).toHaveLength(1)
    await vi.advanceTimersByTimeAsync(2)
    expect(counts).toHaveLength(2)
    await counts[1]?.end(admittedMax - 5)
    expect(await free).toBe(5)
  })

  it('mends itself: what was taken and never came to be is free again with the next count', async () => {
    const { room, counts } = heldRoom()
    void room.free()
    await counts[0]?.end(0)
    room.took(admittedMax)
    const free = room.free()
    await vi.advanceTimersByTimeAsync(1_000)
    await counts[1]?.end(0)
    expect(await free).toBe(admittedMax)
  })

  it('stays as it was known when it can’t be counted, and a failed first count admits nothing', async () => {
    const { room, counts, failures } = heldRoom()
    const first = room.free()
    await counts[0]?.fail()
    expect(await first).toBe(0)
    await vi.advanceTimersByTimeAsync(1_000)
    const second = room.free()
    await counts[1]?.end(100)
    expect(await second).toBe(admittedMax - 100)
    await vi.advanceTimersByTimeAsync(1_000)
    room.known()
    await counts[2]?.fail()
    expect(await room.free()).toBe(admittedMax - 100)
    expect(failures).toHaveLength(2)
  })
})
