/** A figure against what was promised. */
export type Bound = { atLeast?: number; atMost?: number }

export type Verdict = { what: string; value: number | null; bound: Bound; holds: boolean; spoiltBy: readonly string[] }

/** What was not measured doesn't hold; nor does a figure beside which something happened that makes it mean nothing (`spoiltBy`). */
export function judge(what: string, value: number | null, bound: Bound, spoiltBy: readonly string[] = []): Verdict {
  const { atLeast = -Infinity, atMost = Infinity } = bound
  return {
    what,
    value,
    bound,
    spoiltBy,
    holds: value !== null && value >= atLeast && value <= atMost && spoiltBy.length === 0,
  }
}

export function renderVerdict({ what, value, bound, holds, spoiltBy }: Verdict): string {
  const { atLeast, atMost } = bound
  const wanted = [
    ...(atLeast === undefined ? [] : [`at least ${figure(atLeast)}`]),
    ...(atMost === undefined ? [] : [`at most ${figure(atMost)}`]),
  ].join(', ')
  const said = value === null ? 'not measured' : figure(value)
  return [`${holds ? 'HOLDS' : 'FALLS SHORT'}: ${what}: ${said} (${wanted})`, ...spoiltBy].join('; ')
}

/** Figures here are ratios and megabytes: three digits say all that they know. */
function figure(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(2)
}
