import { describe, expect, test } from 'vitest'
import type { DestinationId } from '@tenterhook/schemas/ids'
import { createHealth } from './health.ts'

const one = 'dst_1' as DestinationId
const timeoutMs = 15_000

function healthForTest() {
  let nowMs = 0
  const crowded = new Set<DestinationId>()
  const health = createHealth({
    share: (lane) => (lane === 'normal' ? 50 : 15),
    isCrowded: (id) => crowded.has(id),
    monotonicMs: () => nowMs,
  })
  const attempt = (durationMs: number, id = one) => {
    const running = health.begin(id, timeoutMs)
    nowMs += durationMs
    running.end(durationMs)
  }
  const attempts = (n: number, durationMs: number) => {
    for (let i = 0; i < n; i++) attempt(durationMs)
  }
  /** What is due, written. */
  const write = () => {
    const due = health.due(100)
    health.wrote(due)
    return due
  }
  return { health, crowded, attempt, attempts, write, passMs: (ms: number) => (nowMs += ms) }
}

describe('the window', () => {
  test('is what a destination could get through in two seconds, within its bounds, once enough is known', () => {
    for (const [durationMs, window] of [
      [5, 256],
      [500, 200],
      [1_000, 100],
      [4_000, 100],
    ] as const) {
      const { attempts, write } = healthForTest()
      attempts(7, durationMs)
      expect(write()).toEqual([])
      attempts(1, durationMs)
      expect(write()).toEqual([{ destinationId: one, window, slowForMs: 0 }])
    }
  })

  test('is written again when it changes by a factor of two, and not before', () => {
    const { attempts, write } = healthForTest()
    attempts(20, 500)
    expect(write()).toMatchObject([{ window: 200 }])
    attempts(100, 900)
    expect(write()).toEqual([])
    attempts(100, 1_000)
    expect(write()).toMatchObject([{ window: 100 }])
    attempts(100, 1_000)
    expect(write()).toEqual([])
    attempts(100, 60)
    expect(write()).toMatchObject([{ window: 256 }])
  })

  test('is no larger than what it gets through in four seconds, should that be less than it could', () => {
    const { health, write, passMs } = healthForTest()
    const second = (attempts: number) => {
      for (let i = 0; i < attempts; i++) health.begin(one, timeoutMs).end(5)
      passMs(1_000)
      return write()
    }
    expect(second(100)).toMatchObject([{ window: 256 }])
    const seconds = (attempts: number) => Array.from({ length: 10 }, () => second(attempts)).flat()
    const faster = seconds(300)
    expect(faster).toHaveLength(1)
    expect(faster[0]?.window).toBeGreaterThan(600)
    expect(faster[0]?.window).toBeLessThanOrEqual(1_200)
    expect(seconds(5_000).at(-1)).toMatchObject({ window: 2_000 })
    const slower = seconds(20).map((pace) => pace.window)
    expect(slower.length).toBeLessThanOrEqual(3)
    expect(slower.at(-1)).toBeLessThanOrEqual(512)
  })

  test('that could not be written is due again', () => {
    const { health, attempts } = healthForTest()
    attempts(8, 5)
    expect(health.due(100)).toHaveLength(1)
    expect(health.due(100)).toHaveLength(1)
    health.wrote(health.due(100))
    expect(health.due(100)).toEqual([])
  })
})

describe('a destination is slow', () => {
  test('when its attempts take a third of its timeout on average, for as long as they do, and not for one that did', () => {
    const { attempt, attempts, write, passMs } = healthForTest()
    attempts(50, 20)
    expect(write()).toMatchObject([{ slowForMs: 0 }])
    attempt(timeoutMs)
    attempts(2, timeoutMs)
    expect(write().filter((pace) => pace.slowForMs > 0)).toEqual([])
    attempts(3, timeoutMs)
    expect(write()).toEqual([{ destinationId: one, window: 30, slowForMs: 30_000 }])
    passMs(9_000)
    attempt(1)
    expect(write()).toEqual([])
    passMs(2_000)
    attempt(timeoutMs)
    expect(write()).toMatchObject([{ slowForMs: 30_000 }])
    attempts(30, 20)
    expect(write()).toMatchObject([{ slowForMs: 0 }])
    attempts(30, 20)
    expect(write().filter((pace) => pace.slowForMs > 0)).toEqual([])
  })

  test('before its first timeout when it holds its share and hangs, and has a small window at once', () => {
    const { health, crowded, attempts, write, passMs } = healthForTest()
    attempts(50, 5)
    expect(write()).toMatchObject([{ window: 256 }])
    const hanging = Array.from({ length: 15 }, () => health.begin(one, timeoutMs))
    crowded.add(one)
    passMs(5_000)
    expect(write()).toEqual([])
    passMs(1)
    expect(write()).toEqual([{ destinationId: one, window: 30, slowForMs: 30_000 }])
    crowded.delete(one)
    passMs(10_001)
    expect(write()).toMatchObject([{ slowForMs: 30_000 }])
    for (const attempt of hanging) attempt.end(timeoutMs)
    expect(write()).toEqual([])
  })

  test('not when it hangs with sockets to spare', () => {
    const { health, write, passMs } = healthForTest()
    health.begin(one, timeoutMs)
    passMs(14_000)
    expect(write()).toEqual([])
  })

  test('no more when nothing goes to it: nobody renews it, and its next attempt judges it', () => {
    const { attempts, write, passMs } = healthForTest()
    attempts(10, timeoutMs)
    expect(write()).toMatchObject([{ slowForMs: 30_000 }])
    passMs(25_000)
    expect(write()).toEqual([])
    passMs(10_000)
    expect(write()).toEqual([])
    attempts(1, timeoutMs)
    expect(write()).toMatchObject([{ slowForMs: 30_000 }])
  })
})

test('an attempt that says nothing of its destination changes nothing', () => {
  const { health, attempts, write, passMs } = healthForTest()
  attempts(8, 5)
  write()
  for (let i = 0; i < 100; i++) {
    const attempt = health.begin(one, timeoutMs)
    passMs(14_000)
    attempt.end()
    attempt.end(14_000)
  }
  expect(write()).toEqual([])
})

test('destinations beyond 20,000 push out others that nothing is under way for', () => {
  const { health, attempt, passMs } = healthForTest()
  const id = (n: number) => `dst_${n}` as DestinationId
  const longest = health.begin(id(0), timeoutMs)
  for (let n = 1; n < 25_000; n++) {
    attempt(timeoutMs, id(n))
    if (n % 100 === 0) health.wrote(health.due(1_000))
  }
  longest.end(timeoutMs)
  passMs(1)
  expect(health.due(100_000).map((pace) => pace.destinationId)).toContain(id(0))
})
