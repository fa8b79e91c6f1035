const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']
const time = String.raw`(?<hour>\d\d):(?<minute>\d\d):(?<second>\d\d)`
/** RFC 9110 §5.6.7: the one that is sent, and the two obsolete ones that must still be read. */
const httpDates = [
  new RegExp(String.raw`^[A-Z][a-z]{2}, (?<day>\d\d) (?<month>[A-Z][a-z]{2}) (?<year>\d{4}) ${time} GMT$`),
  new RegExp(String.raw`^[A-Z][a-z]{5,8}, (?<day>\d\d)-(?<month>[A-Z][a-z]{2})-(?<year>\d\d) ${time} GMT$`),
  new RegExp(String.raw`^[A-Z][a-z]{2} (?<month>[A-Z][a-z]{2}) (?<day>[ \d]\d) ${time} (?<year>\d{4})$`),
]

/** The longest wait a destination can ask for: DESIGN §6. */
export const retryAfterMaxMs = 86_400_000

/**
 * Milliseconds to wait by a Retry-After header (RFC 9110 §10.2.3): seconds or a date, a date in the past being 0.
 * Never more than a day; undefined for anything else, so that nonsense leaves the schedule as it is.
 */
export function parseRetryAfter(value: string, nowMs: number): number | undefined {
  const text = value.trim()
  if (/^\d+$/.test(text)) return Math.min(Number(text) * 1_000, retryAfterMaxMs)
  const dateMs = parseHttpDate(text, nowMs)
  return dateMs === undefined ? undefined : Math.min(Math.max(0, dateMs - nowMs), retryAfterMaxMs)
}

function parseHttpDate(text: string, nowMs: number): number | undefined {
  for (const pattern of httpDates) {
    const parts = pattern.exec(text)?.groups
    if (parts === undefined) continue
    const month = months.indexOf(parts['month'] ?? '')
    if (month < 0) return undefined
    const [day = 0, hour = 0, minute = 0, second = 0] = [
      parts['day'],
      parts['hour'],
      parts['minute'],
      parts['second'],
    ].map(Number)
    if (day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60) return undefined
    const year = Number(parts['year'])
    return Date.UTC(year < 100 ? fullYear(year, nowMs) : year, month, day, hour, minute, second)
  }
  return undefined
}

/** The latest year with these last digits that is no more than fifty years ahead (RFC 9110 §5.6.7). */
function fullYear(twoDigits: number, nowMs: number): number {
  const latest = new Date(nowMs).getUTCFullYear() + 50
  return latest - ((latest - twoDigits) % 100)
}
