import { median, medianRatio, ratio } from './pairs.ts'
import type { Pair } from './pairs.ts'
import { otherCoresMax } from './report.ts'
import { table } from './table.ts'
import { judge, renderVerdict } from './verdict.ts'
import type { Verdict } from './verdict.ts'

export type DrainReport = {
  deliveredPerSecond: number
  /** Over the window. */
  waitingMean: number
  repeats: number
  redisPeakBytes: number
  /** By process, inside the window, for 1,000 delivered in it. */
  cpuSecondsPer1000: Record<string, number>
  otherCores: number
}

/** `a` has few waiting, `b` many. */
export type BacklogResults = { few: number; many: number; pairs: Pair<DrainReport>[] }

export type BacklogSummary = {
  few: number
  many: number
  pairs: { few: DrainReport; many: DrainReport; deliveredRatio: number | null }[]
  deliveredRatio: number | null
  /** On a machine with other work a rate tells more of that work than a processor's time does. */
  postgresCpuRatio: number | null
  redisPeakMb: number
  verdicts: Verdict[]
}

/** From the issue. */
const flat = { atLeast: 0.9, atMost: 1.1 }
const redisMbMax = 100

export function summariseBacklog({ few, many, pairs }: BacklogResults): BacklogSummary {
  const deliveredRatio = medianRatio(pairs, ({ deliveredPerSecond }) => deliveredPerSecond)
  const redisPeakMb = Math.max(0, ...pairs.map(({ b }) => b.redisPeakBytes)) / 1024 ** 2
  return {
    few,
    many,
    pairs: pairs.map(({ a, b }) => ({
      few: a,
      many: b,
      deliveredRatio: ratio(b.deliveredPerSecond, a.deliveredPerSecond),
    })),
    deliveredRatio,
    postgresCpuRatio: medianRatio(pairs, postgresCpu),
    redisPeakMb,
    verdicts: [
      judge(
        `delivered/s with ${count(many)} waiting ÷ with ${count(few)}, median of ${pairs.length}`,
        deliveredRatio,
        flat,
        spoiling({ few, many, pairs }),
      ),
      judge(`Redis’s used_memory with ${count(many)} waiting, the most, MB`, redisPeakMb, { atMost: redisMbMax }),
    ],
  }
}

/** A backlog that ran dry was not there, so what was measured is how fast it was filled. */
function spoiling({ few, many, pairs }: BacklogResults): string[] {
  const dry = (side: 'a' | 'b', size: number) => {
    const least = Math.min(...pairs.map((pair) => pair[side].waitingMean))
    return least < size / 2 ? [`of ${count(size)} only ${count(least)} were waiting`] : []
  }
  return [...dry('a', few), ...dry('b', many)]
}

function postgresCpu({ cpuSecondsPer1000 }: DrainReport): number | null {
  return cpuSecondsPer1000['postgres'] ?? null
}

export function renderBacklog(results: BacklogResults): string {
  const { few, many, pairs } = results
  const { postgresCpuRatio, verdicts } = summariseBacklog(results)
  const troubles = pairs.flatMap(({ a, b }, n) => [
    ...renderTroubles(`pair ${n + 1}, ${count(few)} waiting`, a),
    ...renderTroubles(`pair ${n + 1}, ${count(many)} waiting`, b),
  ])
  const cpuMedian = (side: 'a' | 'b') => median(pairs.flatMap((pair) => postgresCpu(pair[side]) ?? []))
  return [
    renderPairs(results),
    renderCpu(results),
    ...(troubles.length > 0 ? [troubles.join('\n')] : []),
    `Postgres’s CPU seconds for 1,000 delivered: ${seconds(cpuMedian('a'))} → ${seconds(cpuMedian('b'))}, median ratio ${postgresCpuRatio?.toFixed(2) ?? '-'}`,
    verdicts.map(renderVerdict).join('\n'),
  ].join('\n\n')
}

function renderPairs({ few, many, pairs }: BacklogResults): string {
  const sideBySide = (show: (report: DrainReport) => string, { a, b }: Pair<DrainReport>) => `${show(a)} → ${show(b)}`
  return table([
    [`waiting: ${count(few)} → ${count(many)}`, 'delivered/s', 'ratio', 'waiting, mean', 'Redis, most MB'],
    ...pairs.map((pair, n) => [
      `pair ${n + 1}`,
      sideBySide(({ deliveredPerSecond }) => deliveredPerSecond.toFixed(0), pair),
      ratio(pair.b.deliveredPerSecond, pair.a.deliveredPerSecond)?.toFixed(2) ?? '-',
      sideBySide(({ waitingMean }) => count(waitingMean), pair),
      sideBySide(({ redisPeakBytes }) => (redisPeakBytes / 1024 ** 2).toFixed(1), pair),
    ]),
  ])
}

function renderCpu({ few, many, pairs }: BacklogResults): string {
  const names = [
    ...new Set(pairs.flatMap(({ a, b }) => [a, b].flatMap((report) => Object.keys(report.cpuSecondsPer1000)))),
  ]
  const row = (title: string, { cpuSecondsPer1000 }: DrainReport) => [
    title,
    ...names.map((name) => seconds(cpuSecondsPer1000[name] ?? null)),
    seconds(Object.values(cpuSecondsPer1000).reduce((sum, one) => sum + one, 0)),
  ]
  return table([
    ['CPU seconds per 1,000 delivered', ...names, 'all'],
    ...pairs.flatMap(({ a, b }, n) => [
      row(`pair ${n + 1}, ${count(few)} waiting`, a),
      row(`pair ${n + 1}, ${count(many)} waiting`, b),
    ]),
  ])
}

function renderTroubles(title: string, { repeats, otherCores }: DrainReport): string[] {
  return [
    ...(repeats > 0 ? [`${title}: ${repeats} deliveries arrived more than once`] : []),
    ...(otherCores > otherCoresMax
      ? [`${title}: other work on this machine took ${otherCores.toFixed(2)} cores meanwhile`]
      : []),
  ]
}

function seconds(value: number | null): string {
  return value === null ? '-' : value.toFixed(3)
}

function count(value: number): string {
  return value.toLocaleString('en')
}
