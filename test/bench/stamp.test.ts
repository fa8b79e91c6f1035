import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bodyBytes, readStamp, stampedBody } from './stamp.ts'

const stamps = fc.record({
  run: fc.integer({ min: 0, max: 9_999 }),
  number: fc.integer({ min: 0, max: 9_999_999_999 }),
  intendedUs: fc.integer({ min: 0, max: 9_007_199_254_740_991 }),
})

describe('stampedBody', () => {
  it('is 1 KB of JSON from which the stamp is read back', () => {
    fc.assert(
      fc.property(stamps, (stamp) => {
        const body = stampedBody(stamp)
        expect(body).toHaveLength(bodyBytes)
        expect(readStamp(body)).toEqual(stamp)
        expect(JSON.parse(body.toString())).toMatchObject({ repository: { full_name: 'acme/shop' } })
      }),
    )
  })

  it('shares no bytes with the next body', () => {
    const first = stampedBody({ run: 1, number: 1, intendedUs: 1 })
    stampedBody({ run: 2, number: 2, intendedUs: 2 })
    expect(readStamp(first)).toEqual({ run: 1, number: 1, intendedUs: 1 })
  })
})

describe('readStamp', () => {
  it('refuses what is not a whole stamp', () => {
    const body = stampedBody({ run: 1, number: 1, intendedUs: 1 })
    for (const other of [
      Buffer.alloc(0),
      Buffer.from('{}'),
      body.subarray(0, 40),
      Buffer.from(body.toString().replace('0000000001', 'abcdefghij')),
    ]) {
      expect(readStamp(other)).toBeUndefined()
    }
  })
})
