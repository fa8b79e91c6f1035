import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseRetryAfter } from './retry-after.ts'

/** The moment of RFC 9110's own examples. */
const nowMs = Date.UTC(1994, 10, 6, 8, 49, 0)

test.each([
  ['0', 0],
  ['120', 120_000],
  [' 120 ', 120_000],
  ['86400', 86_400_000],
  ['86401', 86_400_000],
  ['99999999999999999999999', 86_400_000],
  ['Sun, 06 Nov 1994 08:49:37 GMT', 37_000],
  ['Sunday, 06-Nov-94 08:49:37 GMT', 37_000],
  ['Sun Nov  6 08:49:37 1994', 37_000],
  ['Sun, 06 Nov 1994 08:48:00 GMT', 0],
  ['Mon, 07 Nov 2094 00:00:00 GMT', 86_400_000],
  ['Friday, 06-Nov-15 00:00:00 GMT', 86_400_000],
  ['Saturday, 06-Nov-71 00:00:00 GMT', 0],
])('%j is %i ms', (value, ms) => expect(parseRetryAfter(value, nowMs)).toBe(ms))

test.each([
  '',
  '-5',
  '+5',
  '1.5',
  '1e3',
  '0x10',
  '5s',
  'soon',
  '120, 60',
  '1994-11-06T08:49:37Z',
  'Sun, 06 Nov 1994 08:49:37',
  'Sun, 06 Nov 1994 08:49:37 +0000',
  'Sun, 06 Foo 1994 08:49:37 GMT',
  'Sun, 32 Nov 1994 08:49:37 GMT',
  'Sun, 06 Nov 1994 24:00:00 GMT',
])('%j is nothing', (value) => expect(parseRetryAfter(value, nowMs)).toBeUndefined())

test('every date that JavaScript writes is read to the second', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 86_400 }), fc.integer({ min: 0, max: 4_000_000_000 }), (seconds, base) => {
      expect(parseRetryAfter(new Date((base + seconds) * 1_000).toUTCString(), base * 1_000)).toBe(seconds * 1_000)
    }),
  )
})

test('whatever comes, the wait is between nothing and a day', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[\d +-:,GMTadeou]*$/)), (value) => {
      const ms = parseRetryAfter(value, nowMs) ?? 0
      expect(ms >= 0 && ms <= 86_400_000).toBe(true)
    }),
  )
})
