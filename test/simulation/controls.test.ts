import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { properties } from './checks.ts'
import { controls, type Control, type Flaw } from './controls.ts'
import { scenario } from './scenario.ts'
import { simulate } from './simulate.ts'

/** Each is caught within a fourth of these with any seed that was tried. */
const scenariosMax = 400
const scenarios = fc.sample(scenario, { numRuns: scenariosMax, seed: 1 })

describe('negative controls: the simulation notices a rule that is left out', () => {
  const rows = Object.entries<Control>(controls).map(([flaw, control]) => ({ flaw: flaw as Flaw, ...control }))

  it.each(rows)('$row: breaks $breaks', ({ flaw, row, breaks, given }) => {
    for (const random of scenarios) {
      const plan = { ...random, ...given }
      const violated = simulate(plan, { [flaw]: true }).violation?.property
      expect(simulate(plan).violation, 'with the rule').toBeUndefined()
      if (violated === breaks) return
    }
    expect.fail(`${row}: not noticed in ${scenariosMax} scenarios that it breaks ${breaks} (${properties[breaks]})`)
  })
})
