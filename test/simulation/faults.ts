import type { Moment } from './moments.ts'
import type { Process } from './process.ts'
import { timing, type World } from './world.ts'

export const faultKinds = [
  'kill',
  'pause',
  'reply lost',
  'postgres crash',
  'redis wiped',
  'redis rewound',
  'redis down',
  'job taken away',
] as const
export type FaultKind = (typeof faultKinds)[number]

/** One coroutine takes no steps for a while. It is slow, which is no fault: time waits for what it promised. */
export interface Delay {
  /** Not before this step, and only right after somebody passed the moment. */
  readonly at: number
  readonly moment: Moment
  /** A delay, a pause, an outage: so many steps at most, or until somebody passes this moment. */
  readonly lasts: number
  readonly until: Moment
}

export interface Fault extends Delay {
  readonly kind: FaultKind
  /** Whom or what: taken modulo what there is. */
  readonly pick: number
  /** Whoever passed the moment is held up, too. */
  readonly isSlow: boolean
}

export function holdUp(world: World, delay: Delay): boolean {
  const coroutine = world.stepped
  if (coroutine === undefined || coroutine.isHeldUp || !world.machine.coroutines.includes(coroutine)) return false
  coroutine.isHeldUp = true
  world.say?.(`a step of ${coroutine.process.name} takes long (at ${world.passed})`)
  world.whenOver(delay, () => void (coroutine.isHeldUp = false))
  return true
}

/** Strikes; false when there was nothing to strike. */
export function strike(world: World, fault: Fault): boolean {
  const { postgres, redis, say } = world
  const { pick } = fault
  switch (fault.kind) {
    case 'kill': {
      const process = victim(world, fault)
      if (process === undefined) return false
      const ends = pick > 127
      say?.(`FAULT kill ${process.name}${ends ? ' and what it asked of Postgres' : ''}`)
      world.kill(process, ends)
      return true
    }
    case 'pause': {
      const process = victim(world, fault)
      if (process === undefined || process.paused) return false
      process.paused = true
      if (pick % 4 !== 0) world.clock.pass(timing.leaseMs + 1)
      say?.(`FAULT pause ${process.name}; it is ${world.clock.nowMs} ms`)
      world.whenOver(fault, () => {
        if (process.paused) say?.(`${process.name} goes on`)
        process.paused = false
      })
      return true
    }
    case 'reply lost': {
      if (postgres.awaited() === 0) return false
      const ends = pick % 2 === 0
      say?.(`FAULT a reply of Postgres is lost${ends ? ', its transaction too, unless it was committed' : ''}`)
      postgres.cut(fault.moment === 'anywhere' ? undefined : world.stepped, pick >> 1, ends)
      return true
    }
    case 'postgres crash': {
      if (postgres.losable() === 0) return false
      const kept = pick % 2 === 0 ? 0 : (pick >> 1) % postgres.losable()
      say?.(
        `FAULT Postgres crashes and loses ${postgres.losable() - kept} of ${postgres.losable()} asynchronous commits`,
      )
      postgres.crash(kept)
      world.onCrash()
      return true
    }
    case 'redis wiped':
      say?.('FAULT Redis is wiped')
      redis.wipe()
      return true
    case 'redis rewound': {
      if (redis.moments() === 0) return false
      const moment = pick % redis.moments()
      say?.(`FAULT Redis goes back to moment ${moment} of ${redis.moments()}`)
      redis.rewind(moment)
      redis.isPaused = fault.isSlow
      return true
    }
    case 'redis down':
      if (!redis.up) return false
      say?.('FAULT Redis is down')
      redis.up = false
      world.whenOver(fault, () => {
        if (!redis.up) say?.('Redis is up')
        redis.up = true
      })
      return true
    case 'job taken away': {
      const active = redis.active()
      const job = active[pick % active.length]
      if (job === undefined) return false
      say?.(`FAULT job ${job.id} is taken from its living worker`)
      redis.putBack(job)
      return true
    }
  }
}

/** Who passed the moment that the fault waited for; else anyone. */
function victim({ services, stepped }: World, { moment, pick }: Fault): Process | undefined {
  const passing = services.find((process) => process === stepped?.process)
  return moment === 'anywhere' ? services[pick % services.length] : passing
}

/** Ends what still lasts. Queues, rows and kept results stay as the faults left them. */
export function heal(world: World): void {
  world.say?.('HEALED: from here on every step is taken in turn')
  for (const process of world.machine.processes) process.paused = false
  for (const coroutine of world.machine.coroutines) coroutine.isHeldUp = false
  world.redis.up = true
}
