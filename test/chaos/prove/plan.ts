/** Which faults there are, and from a seed: which come when, to whom, for how long. */
import { seeded } from './random.ts'
import type { Random } from './random.ts'

export const serviceCopies = ['ingest', 'ingest2', 'router', 'router2', 'dispatcher', 'dispatcher2'] as const
export type ServiceCopy = (typeof serviceCopies)[number]

/** Faults of one lane come one after the other; lanes run beside each other, so that faults meet. */
const lanes = ['kills', 'stops', 'clocks', 'postgres', 'redis', 'line'] as const
type Lane = (typeof lanes)[number]

type Kind = {
  lane: Lane
  what: string
  /** Whether what the target had under way may be sent again (PROTOCOL §3, S4). Faults of Redis and lost replies never do. */
  repeats: (target: string) => boolean
  /** Takes the tail of Postgres's asynchronous commits: results already recorded are made again. */
  losesTail: boolean
  /** How long it may still act after its end. Default 0. */
  lingersMs?: number
}

const never = () => false
const always = () => true
const dispatchers = (target: string) => target.startsWith('dispatcher')

const kinds = {
  kill: { lane: 'kills', what: 'SIGKILL of a service', repeats: dispatchers, losesTail: false },
  stop: { lane: 'stops', what: 'SIGSTOP of a service, up to 30 s', repeats: dispatchers, losesTail: false },
  clock: { lane: 'clocks', what: 'a service started an hour fast or slow', repeats: dispatchers, losesTail: false },
  'backend-kill': { lane: 'postgres', what: 'SIGKILL of a Postgres backend', repeats: always, losesTail: true },
  'backend-terminate': { lane: 'postgres', what: 'all backends terminated', repeats: never, losesTail: false },
  'postgres-stop': { lane: 'postgres', what: 'immediate stop of Postgres', repeats: always, losesTail: true },
  'disk-full': { lane: 'postgres', what: 'no space for Postgres', repeats: always, losesTail: true },
  'redis-kill': { lane: 'redis', what: 'SIGKILL of Redis', repeats: never, losesTail: false },
  'redis-hang': { lane: 'redis', what: 'SIGSTOP of Redis', repeats: never, losesTail: false },
  'redis-full': { lane: 'redis', what: 'maxmemory of Redis reached', repeats: never, losesTail: false },
  'redis-flush': { lane: 'redis', what: 'FLUSHALL', repeats: never, losesTail: false },
  'redis-lost': { lane: 'redis', what: 'SIGKILL of Redis, back empty', repeats: never, losesTail: false },
  'redis-rewind': {
    lane: 'redis',
    what: 'Redis back at an old dump, finished jobs in it',
    repeats: never,
    losesTail: false,
  },
  latency: { lane: 'line', what: 'latency to Postgres or Redis', repeats: toPostgres, losesTail: false },
  blackhole: { lane: 'line', what: 'silence to Postgres or Redis', repeats: toPostgres, losesTail: false },
  reset: { lane: 'line', what: 'connections reset', repeats: never, losesTail: false },
  'half-open': {
    lane: 'line',
    what: 'connections half-open',
    repeats: toPostgres,
    losesTail: false,
    // Until every connection of the pool was used, and found dead by the time of its statement (30 s).
    lingersMs: 45_000,
  },
  'cut-commit': { lane: 'line', what: 'cut after COMMIT was sent, before its reply', repeats: never, losesTail: false },
} satisfies Record<string, Kind>
export type FaultKind = keyof typeof kinds
export const faultKinds: Record<FaultKind, Kind> = kinds
export const kindNames = Object.keys(kinds) as FaultKind[]

/** Results wait in the dispatcher while Postgres can't be reached: past their lease, another sends again. */
function toPostgres(target: string): boolean {
  return target.startsWith('dispatcher') && target.endsWith('postgres')
}

export const wipeKinds = ['redis-flush', 'redis-lost', 'redis-rewind'] as const satisfies readonly FaultKind[]
export const postgresKillKinds = ['backend-kill', 'postgres-stop'] as const satisfies readonly FaultKind[]

export type Planned = {
  lane: Lane
  atMs: number
  kind: FaultKind
  target: string
  durationMs: number
  /** At least 0, less than 1: for what else the fault has to choose. */ lot: number
}

export type Quotas = { ms: number; kills: number; wipes: number; postgresKills: number }

const everyMs = {
  stop: 15_000,
  clock: 45_000,
  'backend-terminate': 45_000,
  'disk-full': 60_000,
  'redis-other': 40_000,
  line: 6_000,
}
const lineKinds = ['latency', 'latency', 'blackhole', 'reset', 'half-open', 'cut-commit', 'cut-commit'] as const
const otherRedisKinds = ['redis-kill', 'redis-hang', 'redis-full'] as const

/** The same seed and quotas make the same plan. Sorted by time. */
export function planFaults(seed: number, { ms, kills, wipes, postgresKills }: Quotas): Planned[] {
  const random = seeded(seed)
  const about = (every: number) => Math.max(1, Math.round(ms / every))
  const times = <T>(count: number, make: (n: number) => T) => Array.from({ length: count }, (_, n) => make(n))
  /** In turn, so that each comes as often as the others; which comes first is drawn. */
  const inTurn = <T>(choices: readonly [T, ...T[]], draw: Random) => {
    const first = draw.between(0, choices.length - 1)
    return (n: number) => choices[(first + n) % choices.length] ?? choices[0]
  }
  const service = (draw: Random) => draw.pick(serviceCopies)
  const lane = (name: Lane, wanted: (draw: Random) => Omit<Planned, 'lane' | 'atMs' | 'lot'>[]) => {
    const draw = random.fork(name)
    const faults = shuffled(wanted(draw), draw)
    const slotMs = ms / faults.length
    return faults.map((fault, n): Planned => ({
      ...fault,
      lane: name,
      atMs: Math.round((n + draw.next() * 0.8) * slotMs),
      lot: draw.next(),
    }))
  }
  return [
    lane('kills', (draw) => times(kills, () => ({ kind: 'kill', target: service(draw), durationMs: 0 }))),
    lane('stops', (draw) =>
      times(about(everyMs.stop), () => ({ kind: 'stop', target: service(draw), durationMs: stopMs(draw) })),
    ),
    lane('clocks', (draw) =>
      times(about(everyMs.clock), () => ({
        kind: 'clock',
        target: service(draw),
        durationMs: draw.between(8_000, 25_000),
      })),
    ),
    lane('postgres', (draw) => {
      const killKind = inTurn(postgresKillKinds, draw)
      const other = { target: 'postgres', durationMs: 0 }
      return [
        ...times(postgresKills, (n) => ({ ...other, kind: killKind(n) })),
        ...times(about(everyMs['backend-terminate']), () => ({ ...other, kind: 'backend-terminate' as const })),
        ...times(about(everyMs['disk-full']), () => ({
          kind: 'disk-full' as const,
          target: 'postgres',
          durationMs: draw.between(2_000, 6_000),
        })),
      ]
    }),
    lane('redis', (draw) => {
      const [wipeKind, otherKind] = [inTurn(wipeKinds, draw), inTurn(otherRedisKinds, draw)]
      return [
        ...times(wipes, (n) => ({ kind: wipeKind(n), target: 'redis', durationMs: draw.between(200, 2_000) })),
        ...times(about(everyMs['redis-other']), (n) => ({
          kind: otherKind(n),
          target: 'redis',
          durationMs: draw.between(500, 6_000),
        })),
      ]
    }),
    lane('line', (draw) => {
      const lineKind = inTurn(lineKinds, draw)
      return times(about(everyMs.line), (n) => {
        const kind = lineKind(n)
        const to = kind === 'cut-commit' ? 'postgres' : draw.pick(['postgres', 'postgres', 'redis'])
        return { kind, target: `${service(draw)} → ${to}`, durationMs: draw.between(1_000, 8_000) }
      })
    }),
  ]
    .flat()
    .toSorted((a, b) => a.atMs - b.atMs)
}

/** Mostly moments, now and then past a lease. */
function stopMs(draw: Random): number {
  const lot = draw.next()
  if (lot < 0.5) return draw.between(300, 3_000)
  return lot < 0.85 ? draw.between(3_000, 10_000) : draw.between(20_000, 30_000)
}

function shuffled<T>(things: readonly T[], draw: Random): T[] {
  return things
    .map((thing) => ({ thing, lot: draw.next() }))
    .toSorted((a, b) => a.lot - b.lot)
    .map(({ thing }) => thing)
}
