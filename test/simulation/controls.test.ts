import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { properties } from './checks.ts'
import { controls, type Control } from './controls.ts'
import { scenario } from './scenario.ts'
import { simulate } from './simulate.ts'

/** Each is caught within a fourth of these with any seed that was tried. */
const scenariosMax = 400
const scenarios = fc.sample(scenario, { numRuns: scenariosMax, seed: 1 })

describe('negative controls: the simulation notices a rule that is left out', () => {
  for (const [flaw, control] of Object.entries<Control>(controls)) {
    const { row, breaks, given } = control
    it(`${row}: breaks ${breaks}`, () => {
      for (const random of scenarios) {
        const plan = { ...random, ...given }
        const violated = simulate(plan, { [flaw]: true }).violation?.property
        expect(simulate(plan).violation, 'with the rule').toBeUndefined()
        if (violated === breaks) return
      }
      expect.fail(`not noticed in ${scenariosMax} scenarios that it breaks ${breaks} (${properties[breaks]})`)
    })
  }
})
