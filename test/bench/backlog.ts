/**
 * `npm run bench -- backlog`: what a million waiting deliveries cost. The rate at which ten destinations are served from a
 * backlog of a million, beside the rate from a backlog of a thousand, in turn, each time on a new stack.
 *
 * Both backlogs are kept at their size while they are measured: as many deliveries are added as arrive, by the same
 * statements, so that the two differ in their size and in nothing else. "Waiting" are those that are not admitted: the
 * windows of the destinations are full besides.
 */
import { parseArgs } from 'node:util'
import { openStore } from '@tenterhook/store/connect'
import { pauseDestination, resumeDestination } from '@tenterhook/store/destination-state'
import { renderBacklog, summariseBacklog } from './backlog-report.ts'
import type { BacklogResults, DrainReport } from './backlog-report.ts'
import { nowUs } from './clock.ts'
import { UsageError } from './command.ts'
import type { Command, Setting } from './command.ts'
import { configure } from './configure.ts'
import type { FillerQuestion, FillerReport } from './filler.ts'
import { withFreshStack } from './fresh-stack.ts'
import { interleave } from './pairs.ts'
import { otherCoresOf, spentInside } from './phase.ts'
import { watchRedisMemory } from './redis-memory.ts'
import { settle } from './seed.ts'
import type { SinkQuestion, SinkReport } from './sink.ts'
import type { Stack } from './stack.ts'
import { startWorker } from './worker.ts'
import type { Worker } from './worker.ts'

export const backlog: Command = {
  help: `npm run bench -- backlog [--pairs 3] [--quick] [--json]
  Delivered per second, Postgres's CPU for it and Redis's memory, with 1,000,000 deliveries waiting and with 1,000.
  --quick  50,000 in place of the million, in a minute: for work on the bench, not for figures`,
  async run(args, setting) {
    const { scale, json } = readOptions(args)
    const results = await measureAll(scale, setting)
    const summary = summariseBacklog(results)
    return {
      text: renderBacklog(results),
      summary,
      json,
      holds: summary.verdicts.every(({ holds }) => holds),
    }
  },
}

type Scale = { pairs: number; warmupSeconds: number; seconds: number; few: number; many: number }

const full: Scale = { pairs: 3, warmupSeconds: 10, seconds: 20, few: 1_000, many: 1_000_000 }
const quick: Scale = { pairs: 1, warmupSeconds: 4, seconds: 6, few: 1_000, many: 50_000 }
const destinations = 10
const run = 1

function readOptions(args: string[]): { scale: Scale; json: boolean } {
  const { values } = parseArgs({
    args,
    options: {
      pairs: { type: 'string' },
      quick: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    },
  })
  const scale = values.quick ? quick : full
  const pairs = Number(values.pairs ?? scale.pairs)
  if (!Number.isSafeInteger(pairs) || pairs < 1) throw new UsageError('these arguments name no run:')
  return { scale: { ...scale, pairs }, json: values.json }
}

type Workers = { sink: Worker<SinkQuestion, SinkReport>; filler: Worker<FillerQuestion, FillerReport> }

async function measureAll(scale: Scale, setting: Setting): Promise<BacklogResults> {
  const { few, many } = scale
  const workers: Workers = { sink: startWorker('./sink.ts'), filler: startWorker('./filler.ts') }
  for (const worker of Object.values(workers)) setting.resources.defer(() => worker.stop())
  const pairs = await interleave(scale.pairs, (side, pair) => {
    const waiting = side === 'a' ? few : many
    setting.say(`… pair ${pair} of ${scale.pairs}, ${waiting.toLocaleString('en')} waiting`)
    return withFreshStack(setting, (stack) => {
      if (pair === 1 && side === 'a') setting.say(stack.durability)
      return measureDrain({ scale, workers, stack, waiting })
    })
  })
  return { few, many, pairs }
}

type Drain = { scale: Scale; workers: Workers; stack: Stack; waiting: number }

async function measureDrain({ scale, workers: { sink, filler }, stack, waiting }: Drain): Promise<DrainReport> {
  await using resources = new AsyncDisposableStack()
  const store = openStore({ connectionString: stack.databaseUrl, applicationName: 'tenterhook-bench' })
  resources.defer(() => store.close())
  const redis = await watchRedisMemory(stack.redisUrl)
  resources.defer(() => redis.stop())

  const { url: sinkUrl } = await sink.ask({ kind: 'report' })
  const urls = Array.from({ length: destinations }, (_, n) => `${sinkUrl}/${n}`)
  const [source] = await configure(stack, [{ name: 'bench', urls }])
  if (source === undefined) throw new Error('the source was not configured')
  const ids = source.connections.map(({ destinationId }) => destinationId)
  const seedingMs = performance.now()
  for (const id of ids) await pauseDestination(store.durable, id, 'until its backlog is there')
  await filler.ask({ kind: 'fill', databaseUrl: stack.databaseUrl, source, run, deliveries: waiting })
  await settle(stack.databaseUrl)
  const seedSeconds = (performance.now() - seedingMs) / 1_000

  const fromUs = nowUs() + scale.warmupSeconds * 1_000_000
  const window = { fromUs, toUs: fromUs + scale.seconds * 1_000_000 }
  await sink.ask({ kind: 'begin', run, window })
  for (const id of ids) await resumeDestination(store.durable, id)
  const watched = { ...stack.pids, filler: filler.pid, sink: sink.pid }
  const [spent, { waitingLeast }] = await Promise.all([
    spentInside(window, watched),
    filler.ask({ kind: 'keep', sinkUrl, waiting, window }),
  ])

  const report = await sink.ask({ kind: 'report' })
  const per1000 = report.arrivedInWindow === 0 ? 0 : 1_000 / report.arrivedInWindow
  const cpu = Object.entries(spent.watched).map(([name, { cpuSeconds }]) => [name, cpuSeconds * per1000] as const)
  return {
    deliveredPerSecond: report.arrivedInWindow / scale.seconds,
    waitingLeast,
    repeats: report.repeats,
    redisPeakBytes: redis.peakBytes(),
    cpuSecondsPer1000: Object.fromEntries(cpu),
    otherCores: otherCoresOf(spent, scale.seconds),
    seedSeconds,
  }
}
