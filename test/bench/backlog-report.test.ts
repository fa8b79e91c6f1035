import { describe, expect, it } from 'vitest'
import { renderBacklog, summariseBacklog } from './backlog-report.ts'
import type { DrainReport } from './backlog-report.ts'

const megabyte = 1024 ** 2

function drain(deliveredPerSecond: number, other: Partial<DrainReport> = {}): DrainReport {
  return {
    deliveredPerSecond,
    waitingMean: 1_000_000,
    repeats: 0,
    redisPeakBytes: 8 * megabyte,
    cpuSecondsPer1000: { postgres: 0.2, dispatcher: 0.1 },
    otherCores: 0,
    ...other,
  }
}

const sizes = { few: 1_000, many: 1_000_000 }
const flat = { a: drain(2_000), b: drain(1_900) }
const steep = { a: drain(2_000), b: drain(900) }

describe('summariseBacklog', () => {
  it('holds when the median pair is flat and Redis stayed small', () => {
    const summary = summariseBacklog({ ...sizes, pairs: [flat, steep, { a: drain(1_000), b: drain(1_000) }] })
    expect(summary.deliveredRatio).toBe(0.95)
    expect(summary.verdicts.map(({ holds }) => holds)).toEqual([true, true])
  })

  it('falls short when many are served slower, and also when few are: then the small backlog was not fed well', () => {
    for (const pair of [steep, { a: drain(1_000), b: drain(2_000) }]) {
      expect(summariseBacklog({ ...sizes, pairs: [pair] }).verdicts[0]?.holds).toBe(false)
    }
  })

  it('takes the most of Redis’s memory, not its median', () => {
    const big = { a: drain(2_000), b: drain(2_000, { redisPeakBytes: 101 * megabyte }) }
    const summary = summariseBacklog({ ...sizes, pairs: [flat, flat, big] })
    expect(summary.redisPeakMb).toBe(101)
    expect(summary.verdicts.map(({ holds }) => holds)).toEqual([true, false])
  })

  it('does not count a backlog that ran dry', () => {
    const dry = { a: drain(2_000, { waitingMean: 12 }), b: drain(2_000) }
    expect(summariseBacklog({ ...sizes, pairs: [flat, dry, flat] }).verdicts[0]).toMatchObject({
      holds: false,
      spoiltBy: ['of 1,000 only 12 were waiting'],
    })
  })

  it('compares the processor’s time of Postgres for the same work', () => {
    const costly = { a: drain(2_000), b: drain(2_000, { cpuSecondsPer1000: { postgres: 0.3 } }) }
    expect(summariseBacklog({ ...sizes, pairs: [costly] }).postgresCpuRatio).toBeCloseTo(1.5)
  })
})

describe('renderBacklog', () => {
  it('puts each pair side by side, and says what would make a figure mean something else', () => {
    const noisy = { a: drain(2_000, { otherCores: 0.5 }), b: drain(1_900, { repeats: 3 }) }
    const text = renderBacklog({ ...sizes, pairs: [noisy] })
    expect(text).toMatch(/pair 1 +2000 → 1900 +0\.95 +1,000,000 → 1,000,000 +8\.0 → 8\.0/)
    expect(text).toMatch(/pair 1, 1,000,000 waiting +0\.200 +0\.100 +0\.300/)
    expect(text).toContain('pair 1, 1,000 waiting: other work on this machine took 0.50 cores meanwhile')
    expect(text).toContain('pair 1, 1,000,000 waiting: 3 deliveries arrived more than once')
    expect(text).toMatch(/\n\nHOLDS: delivered.*\nHOLDS: Redis.*8\.00 \(at most 100\)$/)
  })
})
