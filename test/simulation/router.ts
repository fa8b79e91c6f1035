import { stuckKeys, unblockBehind } from './blocked.ts'
import { startFeeder, type Feeder } from './feeder.ts'
import type { Process, Steps } from './process.ts'
import { dueEvents, route } from './route.ts'
import { timing, type World } from './world.ts'

/** A copy of the router: route jobs and, for what no job brought, the sweep lead to T2; a feeder serves what is left waiting. */
export function startRouter(world: World, name: string): Process {
  const { postgres, redis, clock, flaws, history, machine } = world

  function* routeEvents(self: Process, feeder: Feeder, transaction: 'T2' | 'T2s', ids: readonly string[]): Steps {
    const reply = yield* postgres.query({
      name: transaction,
      client: self,
      synchronous: false,
      body: (tx) => route(tx, world, ids, feeder.queueWaitMs()),
    })
    if (reply.kind !== 'committed') return
    world.passed = 'router.after_route'
    yield
    // After the commit: only then does a result that frees room see what is left waiting.
    const { queued, toFeed } = reply.value
    world.say?.(
      `${name} routed ${ids.join(', ')}: admitted ${queued.map((row) => row.id).join(', ') || 'none'}, to feed ${toFeed.join(', ') || 'none'}`,
    )
    feeder.enqueue(queued)
    feeder.request(toFeed)
    world.passed = 'router.after_feed'
    yield
  }

  function* consume(self: Process, feeder: Feeder): Steps {
    for (;;) {
      yield () => redis.hasWork('route')
      const job = redis.take('route', self)
      if (job === undefined) continue
      world.passed = 'router.after_claim'
      yield
      yield* routeEvents(
        self,
        feeder,
        'T2',
        job.hints.map(({ id }) => id),
      )
      redis.complete(job)
    }
  }

  /** T2s: routed in place, never added again. */
  function* sweep(self: Process, feeder: Feeder): Steps {
    for (let nextMs = 0; ; nextMs = clock.nowMs + timing.loopEveryMs) {
      clock.alarm(nextMs)
      yield () => clock.nowMs >= nextMs && dueEvents(world).length > 0
      history.see('event routed by the sweep')
      yield* routeEvents(self, feeder, 'T2s', dueEvents(world))
    }
  }

  function* sweepBlocked(self: Process): Steps {
    for (let nextMs = 0; ; nextMs = clock.nowMs + timing.loopEveryMs) {
      clock.alarm(nextMs)
      yield () => clock.nowMs >= nextMs && stuckKeys(world).length > 0
      history.see('blocked mark repaired')
      yield* unblockBehind(world, self, stuckKeys(world))
    }
  }

  return machine.add(name, (self) => {
    const feeder = startFeeder(world, self)
    world.machine.spawn(self, consume(self, feeder))
    if (!flaws.noBlockedSweep) world.machine.spawnSweep(self, sweepBlocked(self))
    if (!flaws.noRouteSweep) world.machine.spawnSweep(self, sweep(self, feeder))
  })
}
