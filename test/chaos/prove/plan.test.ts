import { describe, expect, it } from 'vitest'
import { readOptions } from './options.ts'
import { kindNames, planFaults, postgresKillKinds, wipeKinds } from './plan.ts'

const quotas = { ms: 300_000, kills: 75, wipes: 13, postgresKills: 12 }

describe('a plan', () => {
  it('is the same for the same seed, and another for another', () => {
    expect(planFaults(7, quotas)).toEqual(planFaults(7, quotas))
    expect(planFaults(7, quotas)).not.toEqual(planFaults(8, quotas))
  })
  it('holds exactly the kills and wipes that were asked for, within its time', () => {
    const plan = planFaults(7, quotas)
    const count = (kinds: readonly string[]) => plan.filter(({ kind }) => kinds.includes(kind)).length
    expect(count(['kill'])).toBe(75)
    expect(count(wipeKinds)).toBe(13)
    expect(count(postgresKillKinds)).toBe(12)
    for (const { atMs } of plan) {
      expect(atMs).toBeGreaterThanOrEqual(0)
      expect(atMs).toBeLessThan(quotas.ms)
    }
  })
  it('leaves no kind of fault out over a few rounds', () => {
    const planned = new Set([1, 2, 3].flatMap((seed) => planFaults(seed, quotas).map(({ kind }) => kind)))
    expect([...planned].toSorted()).toEqual(kindNames.toSorted())
  })
})

describe('the options', () => {
  it('share out what is asked for among the rounds, without a rest', () => {
    const options = readOptions(['--kills', '307', '--wipes', '50', '--postgres-kills', '50'])
    const all = Array.from({ length: options.rounds }, (_, round) => options.quotasOf(round))
    expect(options.rounds).toBeGreaterThan(1)
    expect(all.reduce((sum, one) => sum + one.kills, 0)).toBe(307)
    expect(all.reduce((sum, one) => sum + one.wipes, 0)).toBe(50)
    expect(all.reduce((sum, one) => sum + one.postgresKills, 0)).toBe(50)
  })
  it('refuse what is no number', () => {
    expect(() => readOptions(['--kills', 'many'])).toThrow(/usage/)
    expect(() => readOptions(['--minutes', '0'])).toThrow(/usage/)
  })
})
