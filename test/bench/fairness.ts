/**
 * `npm run bench -- fairness`: what destinations that hang do to those that don't. Two parts, each with (b) and without (a)
 * the hanging ones, in turn, each time on a new stack.
 *
 * `one`: a destination hangs until its timeout with a backlog; the others' p99 is measured. It is paused until the window
 * begins, so the window holds the hardest time too: before anything has timed out, it looks like any other.
 * `tenth`: of many destinations a tenth stop answering as the window begins, at a load that doesn't change; the rate at
 * which the others get theirs is measured.
 */
import { parseArgs } from 'node:util'
import { openStore } from '@tenterhook/store/connect'
import { pauseDestination, resumeDestination } from '@tenterhook/store/destination-state'
import { nowUs } from './clock.ts'
import { UsageError } from './command.ts'
import type { Command, Setting } from './command.ts'
import { configure } from './configure.ts'
import type { ConfiguredSource } from './configure.ts'
import { renderFairness, summariseFairness } from './fairness-report.ts'
import type { FairnessResults } from './fairness-report.ts'
import { withFreshStack } from './fresh-stack.ts'
import type { GeneratorReport, Plan } from './generator.ts'
import { interleave } from './pairs.ts'
import { runPhase } from './phase.ts'
import type { PhasePlan, PhaseReport } from './phase.ts'
import { renderLatency } from './report.ts'
import { createSeeder, settle } from './seed.ts'
import type { SinkQuestion, SinkReport } from './sink.ts'
import type { Stack } from './stack.ts'
import { startWorker } from './worker.ts'
import type { Worker } from './worker.ts'

export const fairness: Command = {
  help: `npm run bench -- fairness [--only one,tenth] [--pairs 3] [--quick] [--json]
  one    p99 of 20 destinations at 300 events/s, with and without one more that hangs over a backlog of 100,000
  tenth  what the other 180 get at 500 events/s when 20 of 200 destinations stop answering, and when none does
  --quick  small numbers and short timeouts, in two minutes: for work on the bench, not for figures`,
  async run(args, setting) {
    const options = readOptions(args)
    const results = await measureAll(options, setting)
    const summary = summariseFairness(results)
    return {
      text: renderFairness(results),
      summary,
      json: options.json,
      holds: summary.verdicts.every(({ holds }) => holds),
    }
  },
}

const partNames = ['one', 'tenth'] as const
type PartName = (typeof partNames)[number]

type Scale = {
  pairs: number
  warmupSeconds: number
  seconds: number
  /** Of an attempt, at every destination: how long a hanging one holds its socket. Undefined: the product's default. */
  timeout: string | undefined
  backlog: number
  one: { healthy: number; perSecond: number }
  tenth: { healthy: number; hanging: number; perSecond: number }
}

/** The window is long enough for the first attempts to time out, to be tried again, and to time out once more. */
const full: Scale = {
  pairs: 3,
  warmupSeconds: 10,
  seconds: 45,
  timeout: undefined,
  backlog: 100_000,
  one: { healthy: 20, perSecond: 300 },
  tenth: { healthy: 180, hanging: 20, perSecond: 500 },
}
const quick: Scale = {
  pairs: 1,
  warmupSeconds: 3,
  seconds: 12,
  timeout: '3s',
  backlog: 5_000,
  one: { healthy: 20, perSecond: 100 },
  tenth: { healthy: 36, hanging: 4, perSecond: 150 },
}

/** After the window: long enough for a delivery that timed out once behind a hanging one. */
const drainTimeoutSeconds = 60
/** Runs number their bodies; the figures count one number. */
const [measuredRun, otherRun] = [1, 2]

type Options = { scale: Scale; only: readonly PartName[]; json: boolean }

function readOptions(args: string[]): Options {
  const { values } = parseArgs({
    args,
    options: {
      only: { type: 'string', default: partNames.join(',') },
      pairs: { type: 'string' },
      quick: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    },
  })
  const scale = values.quick ? quick : full
  const pairs = Number(values.pairs ?? scale.pairs)
  const asked = values.only.split(',')
  const only = partNames.filter((name) => asked.includes(name))
  if (!Number.isSafeInteger(pairs) || pairs < 1 || only.length !== new Set(asked).size)
    throw new UsageError('these arguments name no run:')
  return { scale: { ...scale, pairs }, only, json: values.json }
}

type Rig = {
  setting: Setting
  scale: Scale
  sink: Worker<SinkQuestion, SinkReport>
  sinkUrl: string
  generator: Worker<Plan, GeneratorReport>
  /** For load that is no part of the figures. */
  other: Worker<Plan, GeneratorReport>
}

async function measureAll({ scale, only }: Options, setting: Setting): Promise<FairnessResults> {
  const sink = startWorker<SinkQuestion, SinkReport>('./sink.ts')
  const generator = startWorker<Plan, GeneratorReport>('./generator.ts')
  const other = startWorker<Plan, GeneratorReport>('./generator.ts')
  for (const worker of [sink, generator, other]) setting.resources.defer(() => worker.stop())
  const { url: sinkUrl } = await sink.ask({ kind: 'report' })
  const rig: Rig = { setting, scale, sink, sinkUrl, generator, other }

  const part = async (name: PartName, measure: (rig: Rig, stack: Stack, hangs: boolean) => Promise<PhaseReport>) =>
    only.includes(name)
      ? interleave(scale.pairs, (side, pair) => {
          setting.say(`… ${name}, pair ${pair} of ${scale.pairs}, ${side === 'a' ? 'without' : 'with'} hanging`)
          return withFreshStack(setting, async (stack) => {
            if (pair === 1 && side === 'a') setting.say(stack.durability)
            const report = await measure(rig, stack, side === 'b')
            setting.say(`  ${report.deliveredPerSecond.toFixed(0)}/s, ${renderLatency(report.sink.endToEnd)} ms`)
            return report
          })
        })
      : []
  return { one: await part('one', measureOne), tenth: await part('tenth', measureTenth) }
}

async function measureOne(rig: Rig, stack: Stack, hangs: boolean): Promise<PhaseReport> {
  const { healthy, perSecond } = rig.scale.one
  const sources = await configureSinks(rig, stack, 0, healthy)
  const [hanging] = await configureSinks(rig, stack, healthy, 1)
  const destination = hanging?.connections[0]?.destinationId
  if (hanging === undefined || destination === undefined) throw new Error('the hanging destination was not configured')
  const store = openStore({ connectionString: stack.databaseUrl, applicationName: 'tenterhook-bench' })
  try {
    if (hangs) {
      await pauseDestination(store.durable, destination, 'its time comes with the window')
      await createSeeder({ store, source: hanging, run: otherRun }).add(rig.scale.backlog)
    }
    await settle(stack.databaseUrl)
    return await measurePhase(rig, stack, {
      targets: sources,
      pace: { kind: 'fixed', perSecond },
      hangFrom: healthy,
      ...(hangs && { atWindow: async () => void (await resumeDestination(store.durable, destination)) }),
    })
  } finally {
    await store.close()
  }
}

async function measureTenth(rig: Rig, stack: Stack, hangs: boolean): Promise<PhaseReport> {
  const { healthy, hanging, perSecond } = rig.scale.tenth
  const { warmupSeconds, seconds } = rig.scale
  const share = healthy / (healthy + hanging)
  const sources = await configureSinks(rig, stack, 0, healthy)
  const others = await configureSinks(rig, stack, healthy, hanging)
  await settle(stack.databaseUrl)
  const startUs = nowUs()
  const [report] = await Promise.all([
    measurePhase(rig, stack, {
      targets: sources,
      pace: { kind: 'fixed', perSecond: perSecond * share },
      ...(hangs && { hangFrom: healthy }),
    }),
    rig.other.ask({
      run: otherRun,
      targets: others,
      pace: { kind: 'fixed', perSecond: perSecond * (1 - share) },
      startUs,
      window: { fromUs: startUs, toUs: startUs + (warmupSeconds + seconds) * 1_000_000 },
    }),
  ])
  return report
}

/** A source for each of the sink's paths from `first` on. */
function configureSinks(
  { sinkUrl, scale }: Rig,
  stack: Stack,
  first: number,
  count: number,
): Promise<ConfiguredSource[]> {
  return configure(
    stack,
    Array.from({ length: count }, (_, n) => ({
      name: `bench-${first + n}`,
      urls: [`${sinkUrl}/${first + n}`],
      ...(scale.timeout !== undefined && { timeout: scale.timeout }),
    })),
  )
}

function measurePhase(
  { setting, scale, sink, generator, other }: Rig,
  stack: Stack,
  plan: Pick<PhasePlan, 'targets' | 'pace' | 'hangFrom' | 'atWindow'>,
): Promise<PhaseReport> {
  const { warmupSeconds, seconds } = scale
  const watched = { ...stack.pids, generator: generator.pid, other: other.pid, sink: sink.pid }
  return runPhase(
    { generator, sink },
    { ...plan, run: measuredRun, fanOut: 1, warmupSeconds, seconds, drainTimeoutSeconds, watched },
    setting.signal,
  )
}
