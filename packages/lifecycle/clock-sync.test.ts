import { createLogger } from '@tenterhook/telemetry/log'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { clockSync } from './clock-sync.ts'
import type { CorrectedClock } from './clock.ts'

const postgresIsAheadMs = 5_000
let machineMs: number
let offsetMs: number
let lines: Record<string, unknown>[]
let readPostgresMs: () => Promise<number>

/** A machine whose time passes only when a test says so. */
const clock: CorrectedClock = {
  nowMs: () => machineMs + offsetMs,
  monotonicMs: () => machineMs,
  setOffset: (ms) => {
    offsetMs = ms
  },
  offsetMs: () => offsetMs,
}

beforeEach(() => {
  vi.useFakeTimers()
  machineMs = 1_000_000
  offsetMs = 0
  lines = []
  readPostgresMs = async () => machineMs + postgresIsAheadMs
})
afterEach(() => {
  vi.useRealTimers()
})

function sync() {
  const offsets: number[] = []
  const log = createLogger({
    service: 'test',
    level: 'info',
    destination: { write: (line) => lines.push(JSON.parse(line)) },
  })
  const component = clockSync({
    clock,
    readPostgresMs: () => readPostgresMs(),
    log,
    onOffset: (ms) => offsets.push(ms),
  })
  return { component, offsets }
}

test('a started service has Postgres’s time, and says that its own is more than 2 s off, once', async () => {
  const { component, offsets } = sync()
  await component.start()
  await vi.advanceTimersByTimeAsync(30_000)
  expect(clock.nowMs()).toBe(machineMs + postgresIsAheadMs)
  expect(offsets).toEqual([5_000, 5_000, 5_000, 5_000])
  expect(lines).toMatchObject([{ event: 'clock.skewed', offsetMs: 5_000 }])
  await component.stop(new AbortController().signal)
})

test('half of the round trip is Postgres’s age', async () => {
  readPostgresMs = async () => {
    machineMs += 50
    const answer = machineMs
    machineMs += 50
    return answer
  }
  const { component } = sync()
  await component.start()
  expect(offsetMs).toBe(0)
  expect(lines).toEqual([])
  await component.stop(new AbortController().signal)
})

test('a reading that failed, or that took over a second and agrees, changes nothing', async () => {
  const { component, offsets } = sync()
  await component.start()
  readPostgresMs = () => Promise.reject(new Error('no connection'))
  await vi.advanceTimersByTimeAsync(10_000)
  readPostgresMs = async () => {
    machineMs += 1_001
    return machineMs + postgresIsAheadMs
  }
  await vi.advanceTimersByTimeAsync(10_000)
  expect(offsets).toEqual([5_000])
  expect(offsetMs).toBe(5_000)
  await component.stop(new AbortController().signal)
})

test('a slow reading still tells of an hour: a service that starts beside a busy Postgres is not an hour off', async () => {
  readPostgresMs = async () => {
    machineMs += 1_500
    const answer = machineMs + 3_600_000
    machineMs += 500
    return answer
  }
  const { component } = sync()
  await component.start()
  expect(Math.abs(offsetMs - 3_600_000)).toBeLessThanOrEqual(1_000)
  await component.stop(new AbortController().signal)
})

test('a reading that hangs is the only one under way', async () => {
  const { component } = sync()
  await component.start()
  let asked = 0
  readPostgresMs = () => {
    asked += 1
    return new Promise(() => {})
  }
  await vi.advanceTimersByTimeAsync(60_000)
  expect(asked).toBe(1)
  await component.stop(new AbortController().signal)
})

test('a service does not start without Postgres’s time, and reads no more once stopped', async () => {
  readPostgresMs = () => Promise.reject(new Error('no connection'))
  await expect(sync().component.start()).rejects.toThrow('no connection')

  let asked = 0
  readPostgresMs = async () => {
    asked += 1
    return machineMs
  }
  const { component } = sync()
  await component.start()
  await component.stop(new AbortController().signal)
  await vi.advanceTimersByTimeAsync(60_000)
  expect(asked).toBe(1)
})
