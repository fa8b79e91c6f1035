/**
 * `npm run prove`: the promise of DESIGN §3, tried. Rounds of the real system under load and under faults that a printed
 * seed decides, each judged by what both sides wrote down. Exits with 1 on any violation, and then keeps the evidence.
 */
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { writeFile } from 'node:fs/promises'
import { makeHome, removeHome } from './home.ts'
import { readOptions } from './options.ts'
import { derivedSeed } from './random.ts'
import { renderReport } from './report.ts'
import { runRound } from './round.ts'
import type { Round } from './round.ts'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const roundsMax = 1_000
const violationsShown = 20

const say = (line: string) => void process.stdout.write(`${line}\n`)

async function prove(): Promise<boolean> {
  const options = readOptions(process.argv.slice(2))
  say(
    `seed ${options.seed}: ${options.rounds} rounds of ${Math.round(options.roundMs / 1_000)} s at ${options.perSecond} events/s`,
  )
  const rounds: Round[] = []
  let kept: string | undefined
  for (let n = 0; n < roundsMax; n += 1) {
    const accepted = rounds.reduce((sum, { figures }) => sum + figures.accepted, 0)
    if (n >= options.rounds && accepted >= options.events) break
    const seed = derivedSeed(options.seed, `round ${n}`)
    const home = await makeHome(join(root, '.tenterhook'), process.pid, n)
    say(`round ${n + 1}, seed ${seed}`)
    const round = await runRound({ seed, quotas: options.quotasOf(n), perSecond: options.perSecond, home, root, say })
    rounds.push(round)
    const { figures, violations } = round
    say(
      `  ${figures.accepted} accepted, ${figures.lost} lost, ${figures.repeats} of ${figures.deliveries} deliveries repeated, ${violations.length} violations, ${Math.round(round.lastedMs / 1_000)} s`,
    )
    for (const { invariant, what } of violations.slice(0, violationsShown)) say(`  ${invariant}: ${what}`)
    if (violations.length > 0) {
      kept = home
      await writeFile(join(home, 'round.json'), JSON.stringify({ ...round, skipped: [...round.skipped] }, null, 1))
      break
    }
    await removeHome(home)
  }
  const machine = `${cpus().length} cores, ${Math.round(totalmem() / 1024 ** 3)} GB of memory, ${process.platform}, Node ${process.version}`
  const report = renderReport({ rounds, options, machine })
  say(`\n${report}`)
  if (options.report !== undefined) await writeFile(options.report, report)
  if (kept !== undefined) say(`journals, logs and the plan are kept in ${kept}`)
  return kept === undefined
}

try {
  process.exitCode = (await prove()) ? 0 : 1
} catch (error) {
  process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
  process.exitCode = 1
}
process.exit()
