import type { Rejection } from './verdict.ts'

export type TimestampUnit = 'seconds' | 'milliseconds' | 'rfc3339'

/** No clock is minutes ahead; accepting a far future would keep a captured request alive until then. */
const aheadMaxMs = 300_000

const digits = /^[1-9]\d{0,15}$/
const rfc3339 = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})$/

/** Unix milliseconds of a timestamp in exactly this form; undefined for signs, leading zeros, spaces, fractions or anything after it. */
export function parseTimestamp(text: string, unit: TimestampUnit): number | undefined {
  if (unit === 'rfc3339') {
    const ms = rfc3339.test(text) ? Date.parse(text) : Number.NaN
    return Number.isNaN(ms) ? undefined : ms
  }
  if (!digits.test(text)) return undefined
  const ms = Number(text) * (unit === 'seconds' ? 1_000 : 1)
  return Number.isSafeInteger(ms) ? ms : undefined
}

export function writeTimestamp(nowMs: number, unit: TimestampUnit): string {
  if (unit === 'rfc3339') return new Date(nowMs).toISOString()
  return String(unit === 'seconds' ? Math.floor(nowMs / 1_000) : Math.floor(nowMs))
}

/** Too old, too far ahead, or undefined when it is within the tolerance (both ends count as within). */
export function judgeTimestamp(timestampMs: number, toleranceMs: number, nowMs: number): Rejection | undefined {
  const ageMs = nowMs - timestampMs
  if (ageMs > toleranceMs)
    return {
      kind: 'rejected',
      code: 'timestamp_stale',
      detail: `the signed timestamp is ${Math.ceil(ageMs / 1_000)} s old; at most ${toleranceMs / 1_000} s is accepted`,
    }
  const aheadMs = Math.min(toleranceMs, aheadMaxMs)
  // Written so that NaN, from a clock or a timestamp, ends here and not in acceptance.
  if (!(-ageMs <= aheadMs))
    return {
      kind: 'rejected',
      code: 'timestamp_future',
      detail: `the signed timestamp is ${Math.ceil(-ageMs / 1_000)} s ahead of this clock; at most ${aheadMs / 1_000} s is accepted`,
    }
  return undefined
}
