/**
 * `npm run bench -- backlog`: what a million waiting deliveries cost. The rate at which ten destinations are served from a
 * backlog of a million, beside the rate from a backlog of a thousand: two stacks side by side, served in turn, the other
 * one paused meanwhile, so that seconds and not minutes lie between the two of a pair.
 *
 * Both backlogs are kept at their size while they are measured: as many deliveries are added as arrive, by the same
 * statements, so that the two differ in their size and in nothing else. "Waiting" are those that are not admitted: the
 * windows of the destinations are full besides.
 */
import { parseArgs } from 'node:util'
import type { DestinationId } from '@tenterhook/schemas/ids'
import { openStore } from '@tenterhook/store/connect'
import type { Store } from '@tenterhook/store/connect'
import { pauseDestination, resumeDestination } from '@tenterhook/store/destination-state'
import { renderBacklog, summariseBacklog } from './backlog-report.ts'
import type { BacklogResults, DrainReport } from './backlog-report.ts'
import { nowUs, sleepUntilUs } from './clock.ts'
import { UsageError } from './command.ts'
import type { Command, Setting } from './command.ts'
import { configure } from './configure.ts'
import type { FillerQuestion, FillerReport } from './filler.ts'
import { startFreshStack } from './fresh-stack.ts'
import { interleave } from './pairs.ts'
import { otherCoresOf, spentInside } from './phase.ts'
import { watchRedisMemory } from './redis-memory.ts'
import type { RedisMemory } from './redis-memory.ts'
import { settle } from './seed.ts'
import type { SinkQuestion, SinkReport } from './sink.ts'
import type { Stack } from './stack.ts'
import { startWorker } from './worker.ts'
import type { Worker } from './worker.ts'

export const backlog: Command = {
  help: `npm run bench -- backlog [--pairs 3] [--quick] [--json]
  Delivered per second, Postgres's CPU for it and Redis's memory, with 1,000,000 deliveries waiting and with 1,000.
  --quick  50,000 in place of the million, in a minute or two: for work on the bench, not for figures`,
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
const quietSeconds = 1

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

/** A stack with its backlog, paused. */
type Bed = {
  stack: Stack
  store: Store
  sink: Worker<SinkQuestion, SinkReport>
  sinkUrl: string
  filler: Worker<FillerQuestion, FillerReport>
  redis: RedisMemory
  destinationIds: readonly DestinationId[]
  waiting: number
}

async function measureAll(scale: Scale, setting: Setting): Promise<BacklogResults> {
  const { few, many } = scale
  const beds = { a: await prepare(few, setting), b: await prepare(many, setting) }
  setting.say(beds.a.stack.durability)
  const pairs = await interleave(scale.pairs, async (side, pair) => {
    setting.say(`… pair ${pair} of ${scale.pairs}, ${beds[side].waiting.toLocaleString('en')} waiting`)
    const report = await measureDrain(beds[side], scale)
    setting.say(`  ${report.deliveredPerSecond.toFixed(0)}/s`)
    return report
  })
  return { few, many, pairs }
}

async function prepare(waiting: number, setting: Setting): Promise<Bed> {
  const { resources, say } = setting
  const sink = startWorker<SinkQuestion, SinkReport>('./sink.ts')
  const filler = startWorker<FillerQuestion, FillerReport>('./filler.ts')
  for (const worker of [sink, filler]) resources.defer(() => worker.stop())
  const stack = await startFreshStack(setting, resources)
  const store = openStore({ connectionString: stack.databaseUrl, applicationName: 'tenterhook-bench' })
  resources.defer(() => store.close())
  const redis = await watchRedisMemory(stack.redisUrl)
  resources.defer(() => redis.stop())

  const window = { fromUs: 0, toUs: 0 }
  const { url: sinkUrl } = await sink.ask({ kind: 'begin', run, window })
  const urls = Array.from({ length: destinations }, (_, n) => `${sinkUrl}/${n}`)
  const [source] = await configure(stack, [{ name: 'bench', urls }])
  if (source === undefined) throw new Error('the source was not configured')
  const destinationIds = source.connections.map(({ destinationId }) => destinationId)
  await pauseAll({ store, destinationIds })
  const beganMs = performance.now()
  await filler.ask({ kind: 'fill', databaseUrl: stack.databaseUrl, source, run, deliveries: waiting })
  await settle(stack.databaseUrl)
  say(`${waiting.toLocaleString('en')} deliveries wait, after ${((performance.now() - beganMs) / 1_000).toFixed(0)} s`)
  return { stack, store, sink, sinkUrl, filler, redis, destinationIds, waiting }
}

async function measureDrain(bed: Bed, { warmupSeconds, seconds }: Scale): Promise<DrainReport> {
  const { stack, store, sink, sinkUrl, filler, redis, destinationIds, waiting } = bed
  const fromUs = nowUs() + warmupSeconds * 1_000_000
  const window = { fromUs, toUs: fromUs + seconds * 1_000_000 }
  await sink.ask({ kind: 'window', window })
  for (const id of destinationIds) await resumeDestination(store.durable, id)
  const watched = { ...stack.pids, filler: filler.pid, sink: sink.pid }
  const [spent, { waitingMean }] = await Promise.all([
    spentInside(window, watched),
    filler.ask({ kind: 'keep', sinkUrl, waiting, window }),
  ])
  await pauseAll(bed)
  const report = await quiet(sink)
  const per1000 = report.arrivedInWindow === 0 ? 0 : 1_000 / report.arrivedInWindow
  const cpu = Object.entries(spent.watched).map(([name, { cpuSeconds }]) => [name, cpuSeconds * per1000] as const)
  return {
    deliveredPerSecond: report.arrivedInWindow / seconds,
    waitingMean,
    repeats: report.repeats,
    redisPeakBytes: redis.peakBytes(),
    cpuSecondsPer1000: Object.fromEntries(cpu),
    otherCores: otherCoresOf(spent, seconds),
  }
}

async function pauseAll({ store, destinationIds }: Pick<Bed, 'store' | 'destinationIds'>): Promise<void> {
  for (const id of destinationIds) await pauseDestination(store.durable, id, 'not its turn')
}

/** Until what was under way has arrived: it would be served in the other one's time. */
async function quiet(sink: Bed['sink']): Promise<SinkReport> {
  let before = await sink.ask({ kind: 'report' })
  for (;;) {
    await sleepUntilUs(nowUs() + quietSeconds * 1_000_000)
    const now = await sink.ask({ kind: 'report' })
    if (now.arrived === before.arrived) return now
    before = now
  }
}
