/**
 * Headers as they travel: pairs in the order and the letter case they arrived in, duplicates kept.
 * Never a record: a record loses order and repeated headers.
 */
export type HeaderPairs = ReadonlyArray<readonly [name: string, value: string]>

/** All values of a header, in order of arrival. Names compare without regard to case (RFC 9110 §5.1). */
export function headerValues(headers: HeaderPairs, name: string): string[] {
  const wanted = name.toLowerCase()
  const values: string[] = []
  for (const [key, value] of headers) if (key.toLowerCase() === wanted) values.push(value)
  return values
}

/** The only value of a header: undefined when it is absent *or repeated*, so that a second copy can never decide. */
export function soleHeader(headers: HeaderPairs, name: string): string | undefined {
  const values = headerValues(headers, name)
  return values.length === 1 ? values[0] : undefined
}

/** Pairs from Node's `rawHeaders` (name, value, name, value …). */
export function pairsFromRawHeaders(raw: readonly string[]): HeaderPairs {
  const pairs: [string, string][] = []
  for (let i = 0; i + 1 < raw.length; i += 2) pairs.push([raw[i] ?? '', raw[i + 1] ?? ''])
  return pairs
}

/** Stands in a stored event for the value of a credential that verified it. Such a header is never forwarded. */
export const redactedValue = '[redacted]'
