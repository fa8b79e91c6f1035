import type { Latency } from './histogram.ts'
import type { PhaseReport } from './phase.ts'
import { table } from './table.ts'

export const phaseNames = ['relay', 'full', 'flood', 'fan10', 'fixed'] as const
export type PhaseName = (typeof phaseNames)[number]

export type Measured = { name: PhaseName; title: string; report: PhaseReport }

export type Results = {
  measured: Measured[]
  /** All four services together after a short idle, before any load and after all of it. Null when there was none. */
  idleRssBytes: { before: number; after: number } | null
}

export type Summary = {
  acceptedPerSecond: number | null
  deliveredPerSecond: number | null
  /** Before and after the product's phases, and their mean: the machine may have other work. */
  bareRelayPerSecond: number | null
  bareRelaysPerSecond: number[]
  ratio: number | null
  endToEndMs: Percentiles
  endToEndAtFullMs: Percentiles
  acceptMs: Percentiles
  fanOut10DeliveredPerSecond: number | null
  floodAcceptedPerSecond: number | null
  floodDeliveredPerSecond: number | null
  floodRatio: number | null
  idleRssMb: number | null
  idleRssAfterLoadMb: number | null
  missing: number
}

type Percentiles = { p50: number; p99: number } | null

/** The figures of a run; null is what was not measured. `fixed` gives the latencies without a name, `full` the rates. */
export function summarise({ measured, idleRssBytes }: Results): Summary {
  const report = (name: PhaseName) => measured.find((one) => one.name === name)?.report
  const relays = measured.filter((one) => one.name === 'relay').map((one) => one.report.deliveredPerSecond)
  const relay = relays.length === 0 ? null : relays.reduce((sum, rate) => sum + rate, 0) / relays.length
  const [full, flood, fixed] = [report('full'), report('flood'), report('fixed')]
  const ratioOf = (one: PhaseReport | undefined) =>
    one === undefined || relay === null ? null : one.deliveredPerSecond / relay
  return {
    acceptedPerSecond: full?.acceptedPerSecond ?? null,
    deliveredPerSecond: full?.deliveredPerSecond ?? null,
    bareRelayPerSecond: relay,
    bareRelaysPerSecond: relays,
    ratio: ratioOf(full),
    endToEndMs: percentiles(fixed?.sink.endToEnd),
    endToEndAtFullMs: percentiles(full?.sink.endToEnd),
    acceptMs: percentiles(fixed?.generator.accept),
    fanOut10DeliveredPerSecond: report('fan10')?.deliveredPerSecond ?? null,
    floodAcceptedPerSecond: flood?.acceptedPerSecond ?? null,
    floodDeliveredPerSecond: flood?.deliveredPerSecond ?? null,
    floodRatio: ratioOf(flood),
    idleRssMb: idleRssBytes && megabytes(idleRssBytes.before),
    idleRssAfterLoadMb: idleRssBytes && megabytes(idleRssBytes.after),
    missing: measured.reduce((sum, one) => sum + one.report.missing, 0),
  }
}

export function renderReport(results: Results): string {
  const { measured, idleRssBytes } = results
  const summary = summarise(results)
  const troubles = measured.flatMap(renderTroubles)
  const sections = [renderRates(measured), ...(troubles.length > 0 ? [troubles.join('\n')] : [])]
  sections.push(renderUsage('CPU seconds per 1,000 events', measured, (usage) => usage.cpuSecondsPer1000.toFixed(3)))
  sections.push(
    renderUsage('RSS at the end of the window, MB', measured, (usage) => megabytes(usage.rssBytes).toFixed(0)),
  )
  if (idleRssBytes) {
    sections.push(
      `idle: the four services hold ${megabytes(idleRssBytes.before).toFixed(0)} MB before the load, ${megabytes(idleRssBytes.after).toFixed(0)} MB after it`,
    )
  }
  if (summary.bareRelayPerSecond !== null) {
    sections.push(
      `bare relay, each time: ${summary.bareRelaysPerSecond.map(rate).join(', ')}; mean ${rate(summary.bareRelayPerSecond)}/s`,
    )
  }
  if (summary.ratio !== null) sections.push(`delivered ÷ bare relay: ${summary.ratio.toFixed(3)}`)
  return sections.join('\n\n')
}

function renderRates(measured: Measured[]): string {
  const head = ['', 'accepted/s', 'delivered/s', 'backlog', 'accept ms p50 / p99', 'end to end ms p50 / p99']
  return table([
    head,
    ...measured.map(({ title, report }) => [
      title,
      rate(report.acceptedPerSecond),
      rate(report.deliveredPerSecond),
      String(report.backlog),
      renderLatency(report.generator.accept),
      renderLatency(report.sink.endToEnd),
    ]),
  ])
}

/** What would make a figure mean something else than it says. */
export function renderTroubles({ title, report }: Pick<Measured, 'title' | 'report'>): string[] {
  const { missing, repeats, drainSeconds, generator } = report
  const refused = Object.entries(generator.outcomes).filter(([outcome]) => !outcome.startsWith('2'))
  const troubles = [
    ...(missing > 0 ? [`${missing} deliveries had not arrived ${drainSeconds.toFixed(0)} s after the window`] : []),
    ...(repeats > 0 ? [`${repeats} deliveries arrived more than once`] : []),
    ...refused.map(([outcome, count]) => `${count} requests were answered ${outcome}`),
    ...(generator.skipped > 0 ? [`${generator.skipped} requests were due and not sent: too many were open`] : []),
    ...(generator.late !== null && generator.late.p99 > lateMsMax
      ? [`the generator itself was ${generator.late.p99.toFixed(1)} ms late (p99)`]
      : []),
    ...(report.otherCores > otherCoresMax
      ? [`other work on this machine took ${report.otherCores.toFixed(2)} cores meanwhile`]
      : []),
    ...(report.backlog > 0 && missing === 0
      ? [`the backlog was delivered ${drainSeconds.toFixed(1)} s after the window`]
      : []),
  ]
  return troubles.map((trouble) => `${title}: ${trouble}`)
}

/** The kernel's own work and this process take about half of it. */
export const otherCoresMax = 0.1
/** More than this of a latency is the measuring, not the measured. */
const lateMsMax = 5

type ProcessUsage = PhaseReport['usage'][string]

/** With the sum of all processes, which says more than a rate does when the machine has other work. */
function renderUsage(title: string, measured: Measured[], show: (usage: ProcessUsage) => string): string {
  const names = [...new Set(measured.flatMap(({ report }) => Object.keys(report.usage)))]
  return table([
    [title, ...names, 'all'],
    ...measured.map((one) => [
      one.title,
      ...names.map((name) => {
        const usage = one.report.usage[name]
        return usage === undefined ? '-' : show(usage)
      }),
      show(sumUsage(Object.values(one.report.usage))),
    ]),
  ])
}

function sumUsage(usages: ProcessUsage[]): ProcessUsage {
  return {
    cpuSecondsPer1000: usages.reduce((sum, usage) => sum + usage.cpuSecondsPer1000, 0),
    rssBytes: usages.reduce((sum, usage) => sum + usage.rssBytes, 0),
  }
}

function percentiles(latencies: Latency | null | undefined): Percentiles {
  return latencies ? { p50: latencies.p50, p99: latencies.p99 } : null
}

export function renderLatency(latencies: Latency | null): string {
  return latencies === null ? '-' : `${latencies.p50.toFixed(1)} / ${latencies.p99.toFixed(1)}`
}

function rate(perSecond: number): string {
  return perSecond.toFixed(0)
}

function megabytes(bytes: number): number {
  return bytes / 1024 ** 2
}
