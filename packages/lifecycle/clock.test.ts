import { expect, test } from 'vitest'
import { systemClock } from './clock.ts'

test('the time is this machine’s until an offset is set, then corrected by it', () => {
  const clock = systemClock()
  expect(Math.abs(clock.nowMs() - Date.now())).toBeLessThan(50)
  clock.setOffset(-60_000.4)
  expect(clock.offsetMs()).toBe(-60_000.4)
  expect(Math.abs(clock.nowMs() - (Date.now() - 60_000))).toBeLessThan(50)
  expect(Number.isInteger(clock.nowMs())).toBe(true)
})

test('deadlines do not move with the offset', () => {
  const clock = systemClock()
  const before = clock.monotonicMs()
  clock.setOffset(3_600_000)
  expect(clock.monotonicMs() - before).toBeLessThan(1000)
  expect(clock.monotonicMs()).toBeGreaterThanOrEqual(before)
})
