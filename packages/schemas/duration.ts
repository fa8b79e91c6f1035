import { z } from 'zod'

const unitMs = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const
const pattern = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/

/** A length of time as people write it: `500ms`, `30s`, `15m`, `72h`, `30d`. */
export const duration = z.string().regex(pattern, 'expected a duration such as 500ms, 30s, 15m, 72h or 30d')

/** Milliseconds of a duration that passed the schema above. */
export function durationMs(text: string): number {
  const match = pattern.exec(text)
  const unit = match?.[2] as keyof typeof unitMs | undefined
  if (!match?.[1] || !unit) throw new RangeError(`not a duration: ${JSON.stringify(text)}`)
  return Math.round(Number(match[1]) * unitMs[unit])
}

/** A duration between two bounds, both inclusive. */
export const durationBetween = (least: string, most: string) =>
  duration.refine(
    (text) => !pattern.test(text) || (durationMs(text) >= durationMs(least) && durationMs(text) <= durationMs(most)),
    {
      message: `expected a duration between ${least} and ${most}`,
    },
  )
