import { describe, expect, it } from 'vitest'
import { judge, renderVerdict } from './verdict.ts'

describe('judge', () => {
  it('holds on the bound itself and not beyond it', () => {
    expect(judge('p99', 1.5, { atMost: 1.5 }).holds).toBe(true)
    expect(judge('p99', 1.501, { atMost: 1.5 }).holds).toBe(false)
    expect(judge('rate', 0.95, { atLeast: 0.95 }).holds).toBe(true)
    expect(judge('rate', 0.949, { atLeast: 0.95 }).holds).toBe(false)
  })

  it('holds between two bounds only', () => {
    const flat = { atLeast: 0.9, atMost: 1.1 }
    expect([0.89, 0.9, 1, 1.1, 1.11].map((value) => judge('flat', value, flat).holds)).toEqual([
      false,
      true,
      true,
      true,
      false,
    ])
  })

  it('does not hold when nothing was measured, or when something spoilt it', () => {
    expect(judge('p99', null, { atMost: 1.5 }).holds).toBe(false)
    expect(judge('p99', 1, { atMost: 1.5 }, ['3 deliveries never arrived']).holds).toBe(false)
  })
})

describe('renderVerdict', () => {
  it('says the figure, what was asked of it, and what spoilt it', () => {
    expect(renderVerdict(judge('p99 with ÷ without', 1.234, { atMost: 1.5 }))).toBe(
      'HOLDS: p99 with ÷ without: 1.23 (at most 1.50)',
    )
    expect(renderVerdict(judge('p99 with ÷ without', 1.2, { atMost: 1.5 }, ['3 deliveries never arrived']))).toBe(
      'FALLS SHORT: p99 with ÷ without: 1.20 (at most 1.50); 3 deliveries never arrived',
    )
    expect(renderVerdict(judge('flat', null, { atLeast: 0.9, atMost: 1.1 }))).toBe(
      'FALLS SHORT: flat: not measured (at least 0.90, at most 1.10)',
    )
  })
})
