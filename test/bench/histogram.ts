import { createHistogram } from 'node:perf_hooks'

/** Milliseconds; all NaN-free: an empty histogram is null, so that "nothing measured" never prints as "0 ms". */
export type Latency = { count: number; p50: number; p99: number; max: number }

/** Three significant figures from 1 µs to 10 minutes (HDR); what is longer counts as 10 minutes. */
const highestUs = 600_000_000

export type LatencyHistogram = { record(us: number): void; latency(): Latency | null }

export function startHistogram(): LatencyHistogram {
  const histogram = createHistogram({ lowest: 1, highest: highestUs, figures: 3 })
  return {
    record: (us) => histogram.record(Math.min(highestUs, Math.max(1, Math.round(us)))),
    latency: () =>
      histogram.count === 0
        ? null
        : {
            count: histogram.count,
            p50: toMs(histogram.percentile(50)),
            p99: toMs(histogram.percentile(99)),
            max: toMs(histogram.max),
          },
  }
}

function toMs(us: number): number {
  return us / 1_000
}
