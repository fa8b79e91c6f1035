import { describe, expect, it } from 'vitest'
import type { PhaseReport } from './phase.ts'
import { latency, phaseReport } from './phase-report.fixture.ts'
import { renderReport, summarise } from './report.ts'
import type { Measured, PhaseName } from './report.ts'

function measured(name: PhaseName, deliveredPerSecond: number, other: Partial<PhaseReport> = {}): Measured {
  return { name, title: `the ${name} phase`, report: phaseReport(deliveredPerSecond, other) }
}

describe('summarise', () => {
  it('divides what full load delivered by the mean of the relays around it', () => {
    const summary = summarise({
      measured: [
        measured('relay', 10_000),
        measured('full', 1_800),
        measured('flood', 900),
        measured('fixed', 500),
        measured('relay', 8_000),
      ],
      idleRssBytes: { before: 300 * 1024 ** 2, after: 400 * 1024 ** 2 },
    })
    expect(summary).toMatchObject({
      acceptedPerSecond: 1_801,
      deliveredPerSecond: 1_800,
      bareRelayPerSecond: 9_000,
      bareRelaysPerSecond: [10_000, 8_000],
      ratio: 0.2,
      floodRatio: 0.1,
      endToEndMs: { p50: 3, p99: 40 },
      idleRssMb: 300,
      idleRssAfterLoadMb: 400,
    })
  })

  it('leaves null what was not measured', () => {
    expect(summarise({ measured: [measured('full', 1_800)], idleRssBytes: null })).toMatchObject({
      deliveredPerSecond: 1_800,
      bareRelayPerSecond: null,
      ratio: null,
      endToEndMs: null,
      idleRssMb: null,
    })
  })
})

describe('renderReport', () => {
  it('says what would make a figure mean something else', () => {
    const generator = {
      ...measured('full', 1).report.generator,
      outcomes: { 200: 5, 503: 3 },
      skipped: 2,
      late: latency(1, 9),
    }
    const text = renderReport({
      measured: [measured('full', 1_000, { missing: 4, repeats: 6, otherCores: 0.5, generator })],
      idleRssBytes: null,
    })
    for (const trouble of [
      'the full phase: 4 deliveries had not arrived',
      'the full phase: 6 deliveries arrived more than once',
      'the full phase: 3 requests were answered 503',
      'the full phase: 2 requests were due and not sent',
      'the full phase: the generator itself was 9.0 ms late',
      'the full phase: other work on this machine took 0.50 cores',
    ]) {
      expect(text).toContain(trouble)
    }
    expect(text).toMatch(/the full phase +1001 +1000 +0 +1\.0 \/ 2\.0 +3\.0 \/ 40\.0/)
  })

  it('has no word of trouble in a clean run, and none of a ratio without a relay', () => {
    const text = renderReport({ measured: [measured('full', 1_000)], idleRssBytes: null })
    expect(text).not.toContain('the full phase:')
    expect(text).not.toContain('÷')
  })
})
