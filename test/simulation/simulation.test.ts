import { setImmediate } from 'node:timers/promises'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { faultKinds } from './faults.ts'
import { situations, type History } from './history.ts'
import { scenario, type Scenario } from './scenario.ts'
import { simulate, trace } from './simulate.ts'
import type { Flaws } from './controls.ts'

const seeds = 10_000
/** They take some ten seconds of a core that has nothing else to do. */
const timeoutMs = 300_000

describe('the delivery protocol, simulated', () => {
  it(
    'keeps every property whatever fails, and comes to rest with no hand laid on it',
    { timeout: timeoutMs },
    async () => {
      const reached = new Set<string>()
      await fc.assert(
        fc.asyncProperty(scenario, async (plan) => {
          const { struck, seen } = run(plan)
          for (const what of [...struck.keys(), ...seen.keys()]) reached.add(what)
          // Or the runner takes its worker for hung.
          await setImmediate()
        }),
        { numRuns: seeds },
      )
      // Properties hold cheaply where nothing happens.
      expect([...reached].toSorted()).toEqual([...faultKinds, ...situations].toSorted())
    },
  )

  it('runs the same scenario the same way', () => {
    for (const plan of fc.sample(scenario, { numRuns: 20, seed: 1 })) expect(trace(plan)).toBe(trace(plan))
  })

  it('shows a violation with its seed, a small scenario and what happened in it', { timeout: timeoutMs }, () => {
    const violated = fc.check(
      fc.property(scenario, (plan) => void run(plan, { noLeaseSweep: true })),
      { numRuns: seeds, seed: 1 },
    )
    expect(fc.defaultReportMessage(violated)).toContain('seed: 1')
    expect(violated.counterexample?.[0]?.faults).toHaveLength(1)
    expect(String(violated.errorInstance)).toMatch(/FAULT[^]*S1/)
  })
})

function run(plan: Scenario, flaws: Flaws = {}): History {
  const { violation, history } = simulate(plan, flaws)
  if (violation) throw new Error(`${trace(plan, flaws)}\n${violation.message}`)
  return history
}
