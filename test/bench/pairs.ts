/**
 * Two ways of running the same thing, in turn (A B A B A B): what else the machine does falls on both, and the median of
 * the pairs' ratios leaves out the one that it spoilt.
 */
export type Pair<Report> = { a: Report; b: Report }

export type Side = 'a' | 'b'

export async function interleave<Report>(
  pairs: number,
  measure: (side: Side, pair: number) => Promise<Report>,
): Promise<Pair<Report>[]> {
  const measured: Pair<Report>[] = []
  for (let pair = 1; pair <= pairs; pair++) measured.push({ a: await measure('a', pair), b: await measure('b', pair) })
  return measured
}

/** Of b ÷ a over the pairs; null when one of them has no figure, or nothing to divide by. */
export function medianRatio<Report>(
  pairs: readonly Pair<Report>[],
  figure: (report: Report) => number | null,
): number | null {
  const ratios = pairs.map(({ a, b }) => ratio(figure(b), figure(a)))
  const known = ratios.filter((one) => one !== null)
  return known.length === ratios.length ? median(known) : null
}

export function ratio(dividend: number | null, divisor: number | null): number | null {
  return dividend === null || divisor === null || divisor === 0 ? null : dividend / divisor
}

/** The mean of the middle two when there is no middle one; null of nothing. */
export function median(values: readonly number[]): number | null {
  const sorted = values.toSorted((x, y) => x - y)
  const [low, high] = [sorted[Math.ceil(sorted.length / 2) - 1], sorted[Math.floor(sorted.length / 2)]]
  return low === undefined || high === undefined ? null : (low + high) / 2
}
