/**
 * One phase: load for a warm-up and a window without a pause in between, then the wait until what was accepted has
 * arrived. All rates are of the window alone.
 */
import { nowUs, sleepUntilUs } from './clock.ts'
import type { GeneratorReport, Pace, Plan } from './generator.ts'
import type { SinkQuestion, SinkReport } from './sink.ts'
import { machineCpuSeconds, usageOf } from './usage.ts'
import type { Usage } from './usage.ts'
import type { Worker } from './worker.ts'

export type Rig = { generator: Worker<Plan, GeneratorReport>; sink: Worker<SinkQuestion, SinkReport> }

export type PhasePlan = {
  /** Tells the bodies of this phase from those of others; 1 to 9,999. */
  run: number
  targets: Plan['targets']
  fanOut: number
  pace: Pace
  warmupSeconds: number
  seconds: number
  drainTimeoutSeconds: number
  /** Root process ids by name. */
  watched: Record<string, number>
  /** The sink's paths from here on hang as the window begins: what becomes of the others then is in the figures. */
  hangFrom?: number
  /** Called as the window begins. */
  atWindow?: () => Promise<void>
}

export type PhaseReport = {
  acceptedPerSecond: number
  deliveredPerSecond: number
  /** Deliveries that were accepted, and not yet delivered, when the window closed. */
  backlog: number
  /** Deliveries that never arrived, after the drain. */
  missing: number
  drainSeconds: number
  repeats: number
  generator: GeneratorReport
  sink: SinkReport
  /** By name: CPU seconds inside the window for 1,000 events accepted in it; memory at its end. */
  usage: Record<string, { cpuSecondsPer1000: number; rssBytes: number }>
  /** CPU seconds a second that processes other than the watched used: on a shared machine, a measure of the noise. */
  otherCores: number
}

/** Between telling the processes and the first request. */
const leadUs = 100_000

export async function runPhase(rig: Rig, plan: PhasePlan, signal: AbortSignal): Promise<PhaseReport> {
  const startUs = nowUs() + leadUs
  const window = {
    fromUs: startUs + plan.warmupSeconds * 1_000_000,
    toUs: startUs + (plan.warmupSeconds + plan.seconds) * 1_000_000,
  }
  const { run, targets, pace, hangFrom } = plan
  await rig.sink.ask({ kind: 'begin', run, window, ...(hangFrom !== undefined && { hangFrom }) })
  const [generator, spent] = await Promise.all([
    rig.generator.ask({ run, targets, pace, startUs, window }),
    spentInside(window, plan.watched),
    sleepUntilUs(window.fromUs).then(plan.atWindow),
  ])
  const { sink, drainSeconds } = await drain(
    rig,
    generator.accepted * plan.fanOut,
    window.toUs,
    plan.drainTimeoutSeconds,
    signal,
  )
  return {
    acceptedPerSecond: generator.acceptedInWindow / plan.seconds,
    deliveredPerSecond: sink.arrivedInWindow / plan.seconds,
    // Not below 0: a delivery may arrive before its sender has read the answer.
    backlog: Math.max(0, generator.acceptedByWindowEnd * plan.fanOut - sink.arrivedByWindowEnd),
    missing: Math.max(0, generator.accepted * plan.fanOut - sink.arrived),
    drainSeconds,
    repeats: sink.repeats,
    generator,
    sink,
    otherCores: otherCoresOf(spent, plan.seconds),
    usage: Object.fromEntries(
      Object.entries(spent.watched).map(([name, { cpuSeconds, rssBytes }]) => [
        name,
        {
          cpuSecondsPer1000: generator.acceptedInWindow === 0 ? 0 : (cpuSeconds * 1_000) / generator.acceptedInWindow,
          rssBytes,
        },
      ]),
    ),
  }
}

/** CPU seconds a second that processes other than the watched used. */
export function otherCoresOf(spent: Spent, seconds: number): number {
  const watched = Object.values(spent.watched).reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0)
  return Math.max(0, spent.machineCpuSeconds - watched) / seconds
}

export type Spent = { watched: Record<string, Usage>; machineCpuSeconds: number }

export async function spentInside({ fromUs, toUs }: Plan['window'], watched: Record<string, number>): Promise<Spent> {
  await sleepUntilUs(fromUs)
  const before = { watched: await usageOf(watched), machineCpuSeconds: machineCpuSeconds() }
  await sleepUntilUs(toUs)
  const after = { watched: await usageOf(watched), machineCpuSeconds: machineCpuSeconds() }
  return {
    watched: Object.fromEntries(
      Object.entries(after.watched).map(([name, { cpuSeconds, rssBytes }]) => [
        name,
        { cpuSeconds: cpuSeconds - (before.watched[name]?.cpuSeconds ?? 0), rssBytes },
      ]),
    ),
    machineCpuSeconds: after.machineCpuSeconds - before.machineCpuSeconds,
  }
}

async function drain(
  rig: Rig,
  expected: number,
  fromUs: number,
  timeoutSeconds: number,
  signal: AbortSignal,
): Promise<{ sink: SinkReport; drainSeconds: number }> {
  while (true) {
    signal.throwIfAborted()
    const sink = await rig.sink.ask({ kind: 'report' })
    const drainSeconds = Math.max(0, (nowUs() - fromUs) / 1_000_000)
    if (sink.arrived >= expected || drainSeconds > timeoutSeconds) return { sink, drainSeconds }
    await sleepUntilUs(nowUs() + 50_000)
  }
}
