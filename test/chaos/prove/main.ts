/**
 * `npm run prove`: the promise of DESIGN §3, tried. Rounds of the real system under load and under faults that a printed
 * seed decides, each judged by what both sides wrote down. Exits with 1 on any violation, and then keeps the evidence.
 */
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { writeFile } from 'node:fs/promises'
import { provideFaketime } from './faketime.ts'
import { keepHome, makeHome, removeHome } from './home.ts'
import { readOptions } from './options.ts'
import type { Options } from './options.ts'
import { derivedSeed } from './random.ts'
import { renderReport } from './report.ts'
import { runRound } from './round.ts'
import type { Round } from './round.ts'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const roundsMax = 1_000
const violationsShown = 20

const say = (line: string) => void process.stdout.write(`${line}\n`)

/** One round in a directory of its own, which is kept when anything was not as it must be. */
async function keptRound(
  { seed, n, faketime, options }: { seed: number; n: number; faketime: string | undefined; options: Options },
  stopped: Promise<never>,
): Promise<Round> {
  const home = await makeHome(join(root, '.tenterhook'), process.pid, n)
  const resources = new AsyncDisposableStack()
  let round: Round | undefined
  try {
    const { perSecond } = options
    round = await Promise.race([
      runRound({ seed, quotas: options.quotasOf(n), perSecond, home, root, faketime, say }, resources),
      stopped,
    ])
    return round
  } finally {
    // A round that was judged stands, whatever its processes do at their end.
    await resources
      .disposeAsync()
      .catch((error: unknown) => say(`  not everything ended as it should: ${String(error)}`))
    if (round?.violations.length === 0 || stopping.signal.aborted) await removeHome(home)
    else {
      if (round !== undefined)
        await writeFile(join(home, 'round.json'), JSON.stringify({ ...round, skipped: [...round.skipped] }, null, 1))
      say(`journals, logs and the faults that were are kept in ${await keepHome(home, seed)}`)
    }
  }
}

async function prove(options: Options, stopped: Promise<never>): Promise<boolean> {
  say(
    `seed ${options.seed}: ${options.rounds} rounds of ${Math.round(options.roundMs / 1_000)} s at ${options.perSecond} events/s`,
  )
  const faketime = await provideFaketime(say)
  const rounds: Round[] = []
  const accepted = () => rounds.reduce((sum, { figures }) => sum + figures.accepted, 0)
  let violated = false
  for (let n = 0; n < roundsMax && !violated && (n < options.rounds || accepted() < options.events); n += 1) {
    const seed = derivedSeed(options.seed, `round ${n}`)
    say(`round ${n + 1}, seed ${seed}`)
    const round = await keptRound({ seed, n, faketime, options }, stopped)
    rounds.push(round)
    const { figures, violations } = round
    say(
      `  ${figures.accepted} accepted, ${figures.lost} lost, ${figures.repeats} of ${figures.deliveries} deliveries repeated, ${violations.length} violations, ${Math.round(round.lastedMs / 1_000)} s`,
    )
    for (const what of round.failed) say(`  not done: ${what}`)
    for (const { invariant, what } of violations.slice(0, violationsShown)) say(`  ${invariant}: ${what}`)
    violated = violations.length > 0
  }
  const machine = `${cpus().length} cores, ${Math.round(totalmem() / 1024 ** 3)} GB of memory, ${process.platform}, Node ${process.version}`
  const report = renderReport({ rounds, options, machine })
  say(`\n${report}`)
  if (options.report !== undefined) await writeFile(options.report, report)
  return !violated
}

const stopping = new AbortController()
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(name, () => stopping.abort(new Error(`stopped by ${name}`)))
const stopped = new Promise<never>((_resolve, reject) =>
  stopping.signal.addEventListener('abort', () => reject(stopping.signal.reason)),
)
stopped.catch(() => {})
try {
  process.exitCode = (await prove(readOptions(process.argv.slice(2)), stopped)) ? 0 : 1
} catch (error) {
  const why = error instanceof Error && !stopping.signal.aborted ? error.stack : String(error)
  process.stderr.write(`${why}\n`)
  process.exitCode = 1
}
process.exit()
