import { medianRatio, ratio } from './pairs.ts'
import type { Pair } from './pairs.ts'
import type { PhaseReport } from './phase.ts'
import { renderTroubles, renderLatency } from './report.ts'
import { table } from './table.ts'
import { judge, renderVerdict } from './verdict.ts'
import type { Verdict } from './verdict.ts'

/** `a` is without hanging destinations, `b` with them. A part that was not run has no pairs. */
export type FairnessResults = {
  one: Pair<PhaseReport>[]
  tenth: Pair<PhaseReport>[]
}

export type FairnessSummary = {
  one: PairSummary[]
  tenth: PairSummary[]
  verdicts: Verdict[]
}

type PairSummary = { without: SideSummary; with: SideSummary; p99Ratio: number | null; deliveredRatio: number | null }
type SideSummary = {
  deliveredPerSecond: number
  p50Ms: number | null
  p99Ms: number | null
  missing: number
  hungRequests: number
  hungOpenMost: number
  cpuSecondsPer1000: number
}

/** From the issue: the others' p99 within this of what it is without. */
const p99RatioMax = 1.5
/** With a tenth hanging, the others get at least this part of what they get without. */
const deliveredRatioMin = 0.95

export function summariseFairness({ one, tenth }: FairnessResults): FairnessSummary {
  const verdicts: Verdict[] = []
  if (one.length > 0)
    verdicts.push(
      judge(
        `one hanging: the others’ p99, with ÷ without, median of ${one.length}`,
        medianRatio(one, p99),
        { atMost: p99RatioMax },
        spoiling(one),
      ),
    )
  if (tenth.length > 0)
    verdicts.push(
      judge(
        `a tenth hanging: delivered to the others, with ÷ without, median of ${tenth.length}`,
        medianRatio(tenth, delivered),
        { atLeast: deliveredRatioMin },
        spoiling(tenth),
      ),
    )
  return { one: one.map(summarisePair), tenth: tenth.map(summarisePair), verdicts }
}

/**
 * What never arrived has no latency, so a p99 without it flatters; and where nothing hung, nothing was shown.
 */
function spoiling(pairs: readonly Pair<PhaseReport>[]): string[] {
  const missing = pairs.reduce((sum, { a, b }) => sum + a.missing + b.missing, 0)
  const idle = pairs.filter(({ b }) => b.sink.hung.requests === 0).length
  return [
    ...(missing > 0 ? [`${missing} deliveries of the others had not arrived a minute after the window`] : []),
    ...(idle > 0 ? [`in ${idle} runs nothing hung`] : []),
  ]
}

function summarisePair({ a, b }: Pair<PhaseReport>): PairSummary {
  return {
    without: summariseSide(a),
    with: summariseSide(b),
    p99Ratio: ratio(p99(b), p99(a)),
    deliveredRatio: ratio(delivered(b), delivered(a)),
  }
}

function summariseSide(report: PhaseReport): SideSummary {
  const { sink, usage } = report
  return {
    deliveredPerSecond: report.deliveredPerSecond,
    p50Ms: sink.endToEnd?.p50 ?? null,
    p99Ms: p99(report),
    missing: report.missing,
    hungRequests: sink.hung.requests,
    hungOpenMost: sink.hung.openMost,
    cpuSecondsPer1000: Object.values(usage).reduce((sum, { cpuSecondsPer1000 }) => sum + cpuSecondsPer1000, 0),
  }
}

function p99({ sink }: PhaseReport): number | null {
  return sink.endToEnd?.p99 ?? null
}

function delivered({ deliveredPerSecond }: PhaseReport): number {
  return deliveredPerSecond
}

export function renderFairness(results: FairnessResults): string {
  const { one, tenth, verdicts } = summariseFairness(results)
  const troubles = [...renderPairTroubles('one', results.one), ...renderPairTroubles('tenth', results.tenth)]
  return [
    ...(one.length > 0 ? [renderPairs('one hanging', results.one, one)] : []),
    ...(tenth.length > 0 ? [renderPairs('a tenth hanging', results.tenth, tenth)] : []),
    ...(troubles.length > 0 ? [troubles.join('\n')] : []),
    verdicts.map(renderVerdict).join('\n'),
  ].join('\n\n')
}

function renderPairs(title: string, pairs: readonly Pair<PhaseReport>[], summaries: readonly PairSummary[]): string {
  const sideBySide = (a: string, b: string) => `${a} → ${b}`
  const ratioText = (value: number | null) => (value === null ? '-' : value.toFixed(2))
  return table([
    [
      `${title}, without → with`,
      'delivered/s',
      'ratio',
      'end to end ms p50 / p99',
      'p99 ratio',
      'hung requests',
      'at once',
      'CPU s per 1,000',
    ],
    ...pairs.map(({ a, b }, n) => {
      const { without, with: beside, p99Ratio, deliveredRatio } = summaries[n] ?? summarisePair({ a, b })
      return [
        `pair ${n + 1}`,
        sideBySide(without.deliveredPerSecond.toFixed(0), beside.deliveredPerSecond.toFixed(0)),
        ratioText(deliveredRatio),
        sideBySide(renderLatency(a.sink.endToEnd), renderLatency(b.sink.endToEnd)),
        ratioText(p99Ratio),
        String(beside.hungRequests),
        String(beside.hungOpenMost),
        sideBySide(without.cpuSecondsPer1000.toFixed(2), beside.cpuSecondsPer1000.toFixed(2)),
      ]
    }),
  ])
}

function renderPairTroubles(part: string, pairs: readonly Pair<PhaseReport>[]): string[] {
  return pairs.flatMap(({ a, b }, n) => [
    ...renderTroubles({ title: `${part}, pair ${n + 1}, without`, report: a }),
    ...renderTroubles({ title: `${part}, pair ${n + 1}, with`, report: b }),
  ])
}
