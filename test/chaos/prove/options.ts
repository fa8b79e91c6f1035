import { randomInt } from 'node:crypto'
import { parseArgs } from 'node:util'
import type { Quotas } from './plan.ts'

export const usage =
  'npm run prove -- [--kills 20] [--wipes N] [--postgres-kills N] [--events N] [--minutes N] [--rate 200] [--seed N] [--report file.md]'

export type Options = {
  seed: number
  perSecond: number
  rounds: number
  roundMs: number
  /** Accepted in all rounds together, at least; further rounds are made until they are. */
  events: number
  kills: number
  wipes: number
  postgresKills: number
  /** Where the report is written besides. */
  report: string | undefined
  /** What one round has to do of it all; rounds past the last do as much again. */
  quotasOf(round: number): Quotas
}

/** The least time between two of a kind that the system needs to be at work, and not only starting, when the next comes. */
const everyMs = { kill: 4_000, wipe: 12_000, postgresKill: 20_000 }
const leastMs = 60_000
/** Each round starts and drains, half a minute to a minute; and a round's journals are held in memory to be checked. */
const roundMsMax = 5 * 60_000

export function readOptions(args: string[]): Options {
  const { values } = parseArgs({
    args,
    options: {
      kills: { type: 'string', default: '20' },
      wipes: { type: 'string' },
      'postgres-kills': { type: 'string' },
      events: { type: 'string', default: '0' },
      minutes: { type: 'string' },
      rate: { type: 'string', default: '200' },
      seed: { type: 'string' },
      report: { type: 'string' },
    },
  })
  const whole = (value: string | undefined, otherwise: number) => {
    const number = value === undefined ? otherwise : Number(value)
    if (!(number >= 0) || !Number.isFinite(number)) throw new Error(`usage: ${usage}`)
    return Math.round(number)
  }
  const kills = whole(values.kills, 0)
  const wipes = whole(values.wipes, Math.ceil(kills / 6))
  const postgresKills = whole(values['postgres-kills'], Math.ceil(kills / 6))
  const perSecond = Math.max(1, whole(values.rate, 0))
  const needed = Math.max(leastMs, kills * everyMs.kill, wipes * everyMs.wipe, postgresKills * everyMs.postgresKill)
  const ms = values.minutes === undefined ? needed : Number(values.minutes) * 60_000
  if (!(ms > 0)) throw new Error(`usage: ${usage}`)
  const rounds = Math.max(1, Math.ceil(ms / roundMsMax))
  const roundMs = Math.round(ms / rounds)
  const share = (all: number, round: number) =>
    Math.floor((((round % rounds) + 1) * all) / rounds) - Math.floor(((round % rounds) * all) / rounds)
  return {
    seed: whole(values.seed, randomInt(2 ** 32)),
    perSecond,
    rounds,
    roundMs,
    events: whole(values.events, 0),
    kills,
    wipes,
    postgresKills,
    report: values.report,
    quotasOf: (round) => ({
      ms: roundMs,
      kills: share(kills, round),
      wipes: share(wipes, round),
      postgresKills: share(postgresKills, round),
    }),
  }
}
