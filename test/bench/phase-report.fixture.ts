import type { PhaseReport } from './phase.ts'

export const latency = (p50: number, p99: number) => ({ count: 10, p50, p99, max: p99 })

/** A phase in which nothing went wrong, but for what the test says. */
export function phaseReport(deliveredPerSecond: number, other: Partial<PhaseReport> = {}): PhaseReport {
  return {
    acceptedPerSecond: deliveredPerSecond + 1,
    deliveredPerSecond,
    backlog: 0,
    missing: 0,
    drainSeconds: 0,
    repeats: 0,
    usage: { ingest: { cpuSecondsPer1000: 0.25, rssBytes: 100 * 1024 ** 2 } },
    otherCores: 0,
    generator: {
      accepted: 0,
      acceptedByWindowEnd: 0,
      acceptedInWindow: 0,
      outcomes: { 200: 5 },
      accept: latency(1, 2),
      late: null,
      skipped: 0,
    },
    sink: {
      url: '',
      arrived: 0,
      arrivedByWindowEnd: 0,
      arrivedInWindow: 0,
      repeats: 0,
      strays: 0,
      hung: { requests: 0, openMost: 0 },
      endToEnd: latency(3, 40),
    },
    ...other,
  }
}
