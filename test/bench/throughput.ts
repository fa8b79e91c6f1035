/**
 * `npm run bench`: what the product carries, against a bare relay that carries the same load with no proof and no
 * promise. The phases stand in `phases` below; the rates are of a window after a warm-up.
 */
import { parseArgs } from 'node:util'
import { nowUs, sleepUntilUs } from './clock.ts'
import { UsageError } from './command.ts'
import type { Command, Setting } from './command.ts'
import { configure } from './configure.ts'
import type { GeneratorReport, Pace, Plan } from './generator.ts'
import { runPhase } from './phase.ts'
import type { RelayQuestion } from './relay.ts'
import { phaseNames, renderReport, summarise } from './report.ts'
import type { Measured, PhaseName, Results } from './report.ts'
import type { SinkQuestion, SinkReport } from './sink.ts'
import { serviceNames, startStack } from './stack.ts'
import { usageOf } from './usage.ts'
import { startWorker } from './worker.ts'

export const throughput: Command = {
  help: `npm run bench -- [--seconds 30] [--warmup 8] [--only ${phaseNames.join(',')}] [--json]
  Accepted and delivered per second, latencies, CPU and memory, against a bare relay.`,
  async run(args, setting) {
    const options = readOptions(args)
    const results = await measureAll(options, setting)
    const summary = summarise(results)
    return { text: renderReport(results), summary, json: options.json, holds: summary.missing === 0 }
  },
}

const inFlight = 64
/** Full load keeps step with delivery: about a second's worth may be on its way. */
const undeliveredMax = 2_000
const fixedPerSecond = 500
const drainTimeoutSeconds = 180
const idleSeconds = 10

type Options = { seconds: number; warmupSeconds: number; only: readonly PhaseName[]; json: boolean }

function readOptions(args: string[]): Options {
  const { values } = parseArgs({
    args,
    options: {
      seconds: { type: 'string', default: '30' },
      warmup: { type: 'string', default: '8' },
      only: { type: 'string', default: phaseNames.join(',') },
      json: { type: 'boolean', default: false },
    },
  })
  const seconds = Number(values.seconds)
  const warmupSeconds = Number(values.warmup)
  const asked = values.only.split(',')
  const only = phaseNames.filter((name) => asked.includes(name))
  if (!(seconds > 0) || !(warmupSeconds >= 0) || only.length !== new Set(asked).size)
    throw new UsageError('these arguments name no run:')
  return { seconds, warmupSeconds, only, json: values.json }
}

async function measureAll(options: Options, setting: Setting): Promise<Results> {
  const { resources, say, signal } = setting
  const sink = startWorker<SinkQuestion, SinkReport>('./sink.ts')
  const generator = startWorker<Plan, GeneratorReport>('./generator.ts')
  const relay = startWorker<RelayQuestion, { url: string }>('./relay.ts')
  for (const worker of [sink, generator, relay]) resources.defer(() => worker.stop())
  const sinkUrl = (await sink.ask({ kind: 'report' })).url
  const relayUrl = (await relay.ask({ sinkUrl })).url
  const watched: Record<string, number> = { relay: relay.pid, generator: generator.pid, sink: sink.pid }

  const measured: Measured[] = []
  const measure = async (
    name: PhaseName,
    title: string,
    phase: { fanOut: number; pace: Pace; targets: Plan['targets'] },
  ) => {
    say(`… ${title}`)
    const { seconds, warmupSeconds } = options
    const report = await runPhase(
      { generator, sink },
      { ...phase, run: measured.length + 1, watched, warmupSeconds, seconds, drainTimeoutSeconds },
      signal,
    )
    measured.push({ name, title, report })
  }
  const measureRelay = (title: string) =>
    measure('relay', title, {
      fanOut: 1,
      pace: { kind: 'full', inFlight },
      targets: [{ url: relayUrl, secret: 'unread' }],
    })

  const wanted = (name: PhaseName) => options.only.includes(name)
  if (!options.only.some((name) => name !== 'relay')) {
    await measureRelay('bare relay')
    return { measured, idleRssBytes: null }
  }

  const stack = await startStack(setting, resources)
  say(stack.durability)
  const paths = (count: number) => Array.from({ length: count }, (_, n) => `${sinkUrl}/${n}`)
  const one = await configure(stack, [{ name: 'bench-1', urls: paths(1) }])
  const ten = await configure(stack, [{ name: 'bench-10', urls: paths(10) }])
  Object.assign(watched, stack.pids)
  const keepStep = (fanOut: number): Pace => ({ kind: 'full', inFlight, keepStep: { sinkUrl, fanOut, undeliveredMax } })
  const phases: Record<Exclude<PhaseName, 'relay'>, () => Promise<void>> = {
    full: () => measure('full', 'full load, fan-out 1', { fanOut: 1, pace: keepStep(1), targets: one }),
    flood: () => measure('flood', 'flood, fan-out 1', { fanOut: 1, pace: { kind: 'full', inFlight }, targets: one }),
    fan10: () => measure('fan10', 'full load, fan-out 10', { fanOut: 10, pace: keepStep(10), targets: ten }),
    fixed: () =>
      measure('fixed', `${fixedPerSecond}/s, fan-out 1`, {
        fanOut: 1,
        pace: { kind: 'fixed', perSecond: fixedPerSecond },
        targets: one,
      }),
  }

  say(`full load keeps step: at most ${undeliveredMax} deliveries under way; the flood doesn't wait for delivery`)
  const before = await idleRss(stack.pids)
  if (wanted('relay')) await measureRelay('bare relay, before')
  if (wanted('full')) await phases.full()
  if (wanted('fan10')) await phases.fan10()
  if (wanted('fixed')) await phases.fixed()
  if (wanted('relay')) await measureRelay('bare relay, after')
  if (wanted('flood')) await phases.flood() // last: the backlog it leaves is no other phase's
  return { measured, idleRssBytes: { before, after: await idleRss(stack.pids) } }
}

async function idleRss(pids: Record<string, number>): Promise<number> {
  await sleepUntilUs(nowUs() + idleSeconds * 1_000_000)
  const used = await usageOf(pids)
  return serviceNames.reduce((sum, name) => sum + (used[name]?.rssBytes ?? 0), 0)
}
