import { dueDestinations, feed } from './feed.ts'
import type { Process, Steps } from './process.ts'
import type { Hint } from './redis.ts'
import type { DeliveryRow } from './rows.ts'
import { timing, type World } from './world.ts'

/** What routers and dispatchers share: the wishes for T3, and the jobs that are to be added. */
export interface Feeder {
  request(destinations: readonly string[]): void
  /** Adds jobs for these admissions, best effort. */
  enqueue(admitted: readonly DeliveryRow[]): void
  /** The wait until the sweep leases without a job: none without a queue. */
  queueWaitMs(): number
}

/** Deliveries in one job: few, so that a run sees full and half-full ones. */
const hintsPerJobMax = 2

export function startFeeder(world: World, self: Process): Feeder {
  const { postgres, redis, clock, flaws } = world
  const dirty = new Set<string>()
  let toAdd: Hint[] = []

  const feeder: Feeder = {
    request: (destinations) => destinations.forEach((id) => dirty.add(id)),
    enqueue(admitted) {
      for (const { id, generation } of admitted) toAdd.push({ id, generation })
      if (flaws.windowInRedis)
        for (const { destination } of admitted)
          redis.numbers.set(destination, (redis.numbers.get(destination) ?? 0) + 1)
    },
    queueWaitMs: () => (redis.up ? timing.queueWaitMs : 0),
  }

  function* run(): Steps {
    for (;;) {
      yield () => dirty.size > 0
      const wanted = [...dirty]
      // Before the call, not after it: a request that comes while it runs must lead to another.
      dirty.clear()
      const reply = yield* postgres.query({
        name: 'T3',
        client: self,
        synchronous: false,
        body: (tx) => feed(tx, world, wanted, feeder.queueWaitMs()),
      })
      if (reply.kind !== 'committed') continue
      const { admitted, skipped } = reply.value
      feeder.request(skipped)
      if (admitted.length > 0)
        world.say?.(`${self.name} admitted ${admitted.map((row) => `${row.id} g${row.generation}`).join(', ')}`)
      feeder.enqueue(admitted)
    }
  }

  function* produce(): Steps {
    for (;;) {
      yield () => toAdd.length > 0
      const hints = toAdd.splice(0, hintsPerJobMax)
      const id = jobId(world, hints)
      const outcome = redis.add({ id, queue: 'deliver', hints })
      world.say?.(`${self.name} adds job ${id}: ${outcome}`)
      if (outcome === 'swallowed') world.history.see('add swallowed')
      world.checks.onAdd(outcome, id)
    }
  }

  /** Finds what a feeder that died, or a retry whose time has come, leaves waiting. */
  function* sweep(): Steps {
    for (let nextMs = 0; ; nextMs = clock.nowMs + timing.loopEveryMs) {
      clock.alarm(nextMs)
      yield () => clock.nowMs >= nextMs && dueDestinations(world).length > 0
      feeder.request(dueDestinations(world))
    }
  }

  world.machine.spawn(self, run())
  world.machine.spawn(self, produce())
  if (!flaws.noFeedSweep) world.machine.spawnSweep(self, sweep())
  return feeder
}

/** Of its first admission, which happens once. */
function jobId({ flaws }: World, hints: readonly Hint[]): string {
  const [first] = hints
  return flaws.jobIdWithoutGenerationKept || flaws.jobIdWithoutGenerationRemoved
    ? `d-${first?.id}`
    : `d-${first?.id}-${first?.generation}`
}
