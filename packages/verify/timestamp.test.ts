import { describe, expect, it } from 'vitest'
import { judgeTimestamp, parseTimestamp, writeTimestamp } from './timestamp.ts'

describe('timestamps', () => {
  it('are read in exactly their unit', () => {
    expect(parseTimestamp('1760000000', 'seconds')).toBe(1_760_000_000_000)
    expect(parseTimestamp('1760000000000', 'milliseconds')).toBe(1_760_000_000_000)
    for (const text of [
      '2025-10-09T08:53:20Z',
      '2025-10-09T08:53:20.000Z',
      '2025-10-09T10:53:20+02:00',
      '2025-10-09T08:53:20.000000000Z',
    ])
      expect(parseTimestamp(text, 'rfc3339')).toBe(1_760_000_000_000)
  })

  it('are refused with anything before, after or instead of them', () => {
    for (const text of [
      '',
      '0',
      '01',
      '-1',
      '+1',
      '1.5',
      '1e9',
      ' 1',
      '1 ',
      '1_000',
      '0x1',
      '١',
      '99999999999999999',
      '1760000000abc',
    ])
      expect(parseTimestamp(text, 'seconds'), text).toBeUndefined()
    for (const text of [
      '2025-10-09',
      '2025-10-09T08:53:20',
      '2025-10-09 08:53:20Z',
      '2025-13-09T08:53:20Z',
      '2025-10-09T08:53:20Zx',
      'Thu, 09 Oct 2025 08:53:20 GMT',
      '1760000000',
      '+02025-10-09T08:53:20Z',
    ])
      expect(parseTimestamp(text, 'rfc3339'), text).toBeUndefined()
  })

  it('are written as they are read', () => {
    for (const unit of ['seconds', 'milliseconds', 'rfc3339'] as const)
      expect(parseTimestamp(writeTimestamp(1_760_000_000_000, unit), unit)).toBe(1_760_000_000_000)
  })

  it('are bounded in the future too, and more tightly than a long tolerance', () => {
    expect(judgeTimestamp(1_000_000, 7_200_000, 1_000_000 - 300_000)).toBeUndefined()
    expect(judgeTimestamp(1_000_000, 7_200_000, 1_000_000 - 300_001)).toMatchObject({ code: 'timestamp_future' })
    expect(judgeTimestamp(1_000_000, 5_000, 1_000_000 - 5_001)).toMatchObject({ code: 'timestamp_future' })
    expect(judgeTimestamp(1_000_000, 5_000, Number.NaN)).toMatchObject({ kind: 'rejected' })
  })
})
