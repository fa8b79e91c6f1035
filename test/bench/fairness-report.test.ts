import { describe, expect, it } from 'vitest'
import { renderFairness, summariseFairness } from './fairness-report.ts'
import type { PhaseReport } from './phase.ts'
import { latency, phaseReport } from './phase-report.fixture.ts'

function report(deliveredPerSecond: number, p99: number, other: { hung?: number; missing?: number } = {}): PhaseReport {
  const { missing = 0, hung = 0 } = other
  const { sink } = phaseReport(0)
  return phaseReport(deliveredPerSecond, {
    missing,
    sink: { ...sink, hung: { requests: hung, openMost: Math.min(hung, 51) }, endToEnd: latency(5, p99) },
  })
}

const fair = { a: report(300, 40), b: report(300, 50, { hung: 400 }) }
const unfair = { a: report(300, 40), b: report(20, 14_000, { hung: 400 }) }

describe('summariseFairness', () => {
  it('holds by the median: one pair of three that a noisy machine spoilt changes nothing', () => {
    const { verdicts, one } = summariseFairness({ one: [fair, unfair, fair], tenth: [fair, fair, unfair] })
    expect(verdicts.map(({ value, holds }) => [value, holds])).toEqual([
      [1.25, true],
      [1, true],
    ])
    expect(one[1]).toMatchObject({
      p99Ratio: 350,
      without: { p99Ms: 40, hungRequests: 0 },
      with: { p99Ms: 14_000, hungRequests: 400, hungOpenMost: 51 },
    })
  })

  it('falls short when most pairs do', () => {
    const { verdicts } = summariseFairness({ one: [unfair, fair, unfair], tenth: [unfair, fair, unfair] })
    expect(verdicts.map(({ holds }) => holds)).toEqual([false, false])
  })

  it('judges no part that was not run', () => {
    expect(summariseFairness({ one: [fair], tenth: [] }).verdicts).toHaveLength(1)
    expect(summariseFairness({ one: [], tenth: [] }).verdicts).toHaveLength(0)
  })

  it('does not take a p99 for one from which the deliveries that never came are missing', () => {
    const lossy = { a: report(300, 40), b: report(300, 41, { hung: 400, missing: 12 }) }
    const [verdict] = summariseFairness({ one: [fair, lossy, fair], tenth: [] }).verdicts
    expect(verdict).toMatchObject({ holds: false, spoiltBy: [expect.stringContaining('12 deliveries')] })
  })

  it('shows nothing where nothing hung', () => {
    const idle = { a: report(300, 40), b: report(300, 40) }
    for (const results of [
      { one: [fair, idle, fair], tenth: [] },
      { one: [], tenth: [idle] },
    ]) {
      const [verdict] = summariseFairness(results).verdicts
      expect(verdict).toMatchObject({ holds: false, spoiltBy: ['in 1 runs nothing hung'] })
    }
  })
})

describe('renderFairness', () => {
  it('puts each pair side by side, then its troubles, then the verdicts', () => {
    const lossy = { a: report(300, 40), b: report(280, 9_000, { hung: 400, missing: 7 }) }
    const text = renderFairness({ one: [fair, lossy], tenth: [fair] })
    expect(text).toMatch(/pair 1 +300 → 300 +1\.00 +5\.0 \/ 40\.0 → 5\.0 \/ 50\.0 +1\.25 +400 +51 +0\.25 → 0\.25/)
    expect(text).toContain('one, pair 2, with: 7 deliveries had not arrived')
    expect(text).toMatch(/\n\nFALLS SHORT: one hanging: .*\nHOLDS: a tenth hanging: .*$/)
  })
})
