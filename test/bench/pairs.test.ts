import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { interleave, median, medianRatio, ratio } from './pairs.ts'

describe('interleave', () => {
  it('runs the sides in turn, one at a time, and keeps each pair together', async () => {
    const order: string[] = []
    let running = 0
    const pairs = await interleave(3, async (side, pair) => {
      expect(++running).toBe(1)
      await new Promise((resolve) => setImmediate(resolve))
      running--
      order.push(`${side}${pair}`)
      return `${side}${pair}`
    })
    expect(order).toEqual(['a1', 'b1', 'a2', 'b2', 'a3', 'b3'])
    expect(pairs).toEqual([
      { a: 'a1', b: 'b1' },
      { a: 'a2', b: 'b2' },
      { a: 'a3', b: 'b3' },
    ])
  })

  it('measures no more once one measurement failed', async () => {
    const order: string[] = []
    const failing = interleave(3, (side, pair) => {
      order.push(`${side}${pair}`)
      return side === 'b' ? Promise.reject(new Error('no Postgres')) : Promise.resolve(1)
    })
    await expect(failing).rejects.toThrow('no Postgres')
    expect(order).toEqual(['a1', 'b1'])
  })
})

describe('median', () => {
  it('is the middle one in order of size, not of time', () => {
    expect(median([10, 9, 100])).toBe(10)
  })

  it('is the mean of the middle two', () => {
    expect(median([4, 1, 3, 100])).toBe(3.5)
  })

  it('of nothing is nothing', () => {
    expect(median([])).toBeNull()
  })

  it('has as many values above it as below it, and leaves its argument as it was', () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 1_000 }), { minLength: 1, maxLength: 9 }), (values) => {
        const before = [...values]
        const middle = median(values) ?? Number.NaN
        expect(values).toEqual(before)
        expect(values.filter((one) => one < middle).length).toBeLessThanOrEqual(values.length / 2)
        expect(values.filter((one) => one > middle).length).toBeLessThanOrEqual(values.length / 2)
      }),
    )
  })
})

describe('ratio', () => {
  it('is null where a figure is missing or nothing stands below the line', () => {
    expect([ratio(3, 2), ratio(null, 2), ratio(3, null), ratio(3, 0)]).toEqual([1.5, null, null, null])
  })
})

describe('medianRatio', () => {
  it('divides within each pair: a machine that was slow for one whole pair spoils nothing', () => {
    const pairs = [
      { a: 20, b: 22 },
      { a: 200, b: 240 },
      { a: 20, b: 100 },
    ]
    expect(medianRatio(pairs, (report) => report)).toBeCloseTo(1.2)
  })

  it('is null when a single figure is missing: the pair that is left out may be the one that fell short', () => {
    const pairs: { a: number | null; b: number | null }[] = [
      { a: 20, b: 22 },
      { a: 20, b: null },
      { a: 20, b: 22 },
    ]
    expect(medianRatio(pairs, (report) => report)).toBeNull()
  })
})
