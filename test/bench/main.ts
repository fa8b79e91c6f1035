/**
 * `npm run bench`: what the product carries on this machine, against a bare relay that carries the same load with no
 * proof and no promise. The phases stand in `phases` below; the rates are of a window after a warm-up.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { nowUs, sleepUntilUs } from './clock.ts'
import { configure } from './configure.ts'
import type { GeneratorReport, Pace, Plan } from './generator.ts'
import { makeHome } from './home.ts'
import { describeMachine } from './machine.ts'
import { runPhase } from './phase.ts'
import type { RelayQuestion } from './relay.ts'
import { phaseNames, renderReport, summarise } from './report.ts'
import type { Measured, PhaseName, Results } from './report.ts'
import type { SinkQuestion, SinkReport } from './sink.ts'
import { serviceNames, startStack } from './stack.ts'
import { usageOf } from './usage.ts'
import { startWorker } from './worker.ts'

const usage = `npm run bench -- [--seconds 30] [--warmup 8] [--only ${phaseNames.join(',')}] [--json]`
const root = fileURLToPath(new URL('../../', import.meta.url))
const inFlight = 64
/** Full load keeps step with delivery: about a second's worth may be on its way. */
const undeliveredMax = 2_000
const fixedPerSecond = 500
const drainTimeoutSeconds = 180
const idleSeconds = 10

type Options = { seconds: number; warmupSeconds: number; only: readonly PhaseName[]; json: boolean }

function readOptions(): Options {
  const { values } = parseArgs({
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
  if (!(seconds > 0) || !(warmupSeconds >= 0) || only.length !== new Set(asked).size) throw new Error(`usage: ${usage}`)
  return { seconds, warmupSeconds, only, json: values.json }
}

async function bench(options: Options, resources: AsyncDisposableStack, stopping: AbortController): Promise<Results> {
  const { signal } = stopping
  const home = await makeHome(join(root, '.tenterhook'), process.pid)
  resources.defer(() => rm(home, { recursive: true, force: true, maxRetries: 3 }))
  say(await describeMachine(home))

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
    phase: { fanOut: number; pace: Pace; target: Plan['target'] },
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
      target: { url: relayUrl, secret: 'unread' },
    })

  const wanted = (name: PhaseName) => options.only.includes(name)
  if (!options.only.some((name) => name !== 'relay')) {
    await measureRelay('bare relay')
    return { measured, idleRssBytes: null }
  }

  const stack = await startStack(
    { root, home, env: process.env, signal, say, onDeath: (error) => stopping.abort(error) },
    resources,
  )
  say(stack.durability)
  const target = async (fanOut: number) => {
    const { source, secret } = await configure({ ...stack, sinkUrl, fanOut })
    return { url: `${stack.ingestUrl}/${source}`, secret }
  }
  const [one, ten] = [await target(1), await target(10)]
  Object.assign(watched, stack.pids)
  const keepStep = (fanOut: number): Pace => ({ kind: 'full', inFlight, keepStep: { sinkUrl, fanOut, undeliveredMax } })
  const phases: Record<Exclude<PhaseName, 'relay'>, () => Promise<void>> = {
    full: () => measure('full', 'full load, fan-out 1', { fanOut: 1, pace: keepStep(1), target: one }),
    flood: () => measure('flood', 'flood, fan-out 1', { fanOut: 1, pace: { kind: 'full', inFlight }, target: one }),
    fan10: () => measure('fan10', 'full load, fan-out 10', { fanOut: 10, pace: keepStep(10), target: ten }),
    fixed: () =>
      measure('fixed', `${fixedPerSecond}/s, fan-out 1`, {
        fanOut: 1,
        pace: { kind: 'fixed', perSecond: fixedPerSecond },
        target: one,
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

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

const stopping = new AbortController()
for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.on(name, () => stopping.abort(new Error(`stopped by ${name}`)))
const stopped = new Promise<never>((_resolve, reject) =>
  stopping.signal.addEventListener('abort', () => reject(stopping.signal.reason)),
)
stopped.catch(() => {})
const resources = new AsyncDisposableStack()
try {
  const options = readOptions()
  const results = await Promise.race([bench(options, resources, stopping), stopped])
  const summary = summarise(results)
  say(`\n${renderReport(results)}`)
  if (options.json) say(JSON.stringify(summary))
  if (summary.missing > 0) process.exitCode = 1
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
} finally {
  await resources.disposeAsync()
}
process.exit()
