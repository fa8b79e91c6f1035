import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { startHistogram } from './histogram.ts'

describe('startHistogram', () => {
  it('gives percentiles that a sorted list gives, to three figures', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 100_000_000 }), { minLength: 1, maxLength: 300 }), (times) => {
        const histogram = startHistogram()
        for (const time of times) histogram.record(time)
        const sorted = [...times].sort((a, b) => a - b)
        const exact = (percent: number) => (sorted[Math.ceil((percent / 100) * sorted.length) - 1] ?? 0) / 1_000
        const latency = histogram.latency()
        expect(latency?.count).toBe(times.length)
        for (const [measured, wanted] of [
          [latency?.p50, exact(50)],
          [latency?.p99, exact(99)],
          [latency?.max, exact(100)],
        ] as const) {
          expect(Math.abs((measured ?? 0) - wanted)).toBeLessThanOrEqual(wanted * 0.001 + 0.001)
        }
      }),
    )
  })

  it('says nothing was measured rather than 0', () => {
    expect(startHistogram().latency()).toBeNull()
  })

  it('counts what is longer than its range as its longest, and a clock that stood still as the shortest', () => {
    const histogram = startHistogram()
    histogram.record(3_600_000_000)
    histogram.record(0)
    expect(histogram.latency()).toMatchObject({ count: 2, p50: 0.001 })
    expect(histogram.latency()?.max).toBeGreaterThanOrEqual(599_000)
  })
})
