import { randomInt } from 'node:crypto'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { root } from '../../support/service-process.ts'
import { findFaketime } from './faketime.ts'
import { keepHome, makeHome, removeHome } from './home.ts'
import { runRound } from './round.ts'

/** A minute and a half of faults; starting, draining and what sick destinations take come on top. */
const quotas = { ms: 90_000, kills: 20, wipes: 6, postgresKills: 5 }
/** Four processes' worth of work on two cores, and other tests beside it. */
const perSecond = 60
const timeoutMs = 12 * 60_000

it(
  'a round of random faults loses nothing, and what is sent twice is explained by one',
  { timeout: timeoutMs },
  async () => {
    const seed = randomInt(2 ** 32)
    const home = await makeHome(join(root, '.tenterhook'), process.pid, 0)
    const resources = new AsyncDisposableStack()
    let proven = false
    try {
      const round = await runRound(
        { seed, quotas, perSecond, home, root, faketime: await findFaketime(), say: () => {} },
        resources,
      )
      for (const [kind, note] of round.skipped) process.stderr.write(`not proven here: ${kind}, ${note}\n`)
      expect(round.violations, `seed ${seed}`).toEqual([])
      expect(round.faults.filter(({ kind }) => kind === 'kill')).toHaveLength(quotas.kills)
      expect(round.figures.accepted).toBeGreaterThan((quotas.ms / 1_000) * perSecond * 0.3)
      proven = true
    } finally {
      await resources.disposeAsync()
      if (proven) await removeHome(home)
      else process.stderr.write(`the evidence of seed ${seed} is kept in ${await keepHome(home, seed)}\n`)
    }
  },
)
