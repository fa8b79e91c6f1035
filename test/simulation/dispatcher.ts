import { unblockBehind } from './blocked.ts'
import { watchEpoch } from './epoch.ts'
import { startFeeder, type Feeder } from './feeder.ts'
import type { Attempt, Send } from './history.ts'
import { handBack, lease, release } from './lease.ts'
import type { Process, Steps } from './process.ts'
import type { Hint } from './redis.ts'
import { recordResult } from './results.ts'
import { placeOf, type DeliveryRow } from './rows.ts'
import { dueQueued, hasDueQueued, hasLeaseOver, renew, sweepLeases } from './sweep.ts'
import { failuresMax, timing, type World } from './world.ts'

const slotsMax = 2
const consumers = 2

/** What one life of a dispatcher remembers. */
interface Memory {
  readonly self: Process
  readonly feeder: Feeder
  slotsFree: number
  /** Admissions whose lease is being asked for: a second wish at the same time gets nothing. */
  readonly wanted: Set<string>
}

/** A copy of the dispatcher: jobs and sweep alike lease (T4), send, record (T5) and feed (T3); loops for T6, T7 and the Redis epoch. */
export function startDispatcher(world: World, name: string): Process {
  const { postgres, redis, clock, flaws, history, checks, machine } = world

  function* consume(memory: Memory): Steps {
    for (;;) {
      yield () => memory.slotsFree > 0 && redis.hasWork('deliver')
      const job = redis.take('deliver', memory.self)
      if (job === undefined) continue
      let left = job.hints.length
      for (const hint of job.hints)
        world.machine.spawn(memory.self, deliver(memory, hint, { done: () => void (left -= 1) }))
      yield () => left === 0
      redis.complete(job)
    }
  }

  /** Lease → send → record → feed: brought by a job or by the sweep, the lease decides. */
  function* deliver(memory: Memory, hint: Hint, when: { leased?: () => void; done?: () => void }): Steps {
    const parkedUntilMs = clock.nowMs + timing.parkedMs
    if (memory.slotsFree === 0) clock.alarm(parkedUntilMs)
    yield () => memory.slotsFree > 0 || clock.nowMs >= parkedUntilMs
    if (memory.slotsFree === 0) {
      yield* postgres.query({
        name: 'hand back',
        client: memory.self,
        synchronous: false,
        body: (tx) => handBack(tx, world, hint),
      })
      when.leased?.()
      when.done?.()
      return
    }
    memory.slotsFree -= 1
    const admission = `${hint.id} ${hint.generation}`
    if (!memory.wanted.has(admission)) {
      memory.wanted.add(admission)
      const askedMs = clock.nowMs
      const token = world.newToken()
      const reply = yield* postgres.query({
        name: 'T4',
        client: memory.self,
        synchronous: isOrdered(hint.id) && !flaws.asyncOrderedLease,
        token,
        body: (tx) => lease(tx, world, hint, token),
      })
      memory.wanted.delete(admission)
      when.leased?.()
      // COMMIT unknown: nothing is sent.
      if (reply.kind === 'committed' && reply.value?.state === 'leased')
        yield* attempt(memory, reply.value, token, askedMs + timing.leaseMs)
      else if (reply.kind === 'committed' && reply.value && flaws.windowInRedis) countDown(reply.value.destination)
    } else when.leased?.()
    memory.slotsFree += 1
    when.done?.()
  }

  function* attempt(memory: Memory, leased: DeliveryRow, token: string, leaseEndsMs: number): Steps {
    const { self, feeder } = memory
    world.passed = 'dispatcher.after_lease'
    world.say?.(
      `${name} has leased ${leased.id} g${leased.generation} (attempt ${leased.attempt}) until ${leaseEndsMs}`,
    )
    const mine: Attempt = {
      process: self,
      life: self.life,
      delivery: leased.id,
      place: placeOf(leased),
      event: leased.event,
      ordered: leased.orderKey !== null,
      token,
      generation: leased.generation,
      leaseEndsMs,
      checkedAtMs: undefined,
      leaseLost: postgres.deliveries.get(leased.id)?.token !== token,
    }
    history.attempts.set(token, mine)
    yield
    if (clock.nowMs + timing.attemptTimeoutMs + timing.recordMs > leaseEndsMs && !flaws.noClockCheck) {
      yield* postgres.query({
        name: 'T11',
        client: self,
        synchronous: false,
        token,
        body: (tx) => release(tx, world, leased.id, token),
      })
      feeder.request([leased.destination])
      return
    }
    if (!flaws.noClockCheck) mine.checkedAtMs = clock.nowMs
    // From here to the record a healthy dispatcher needs no more than its lease.
    const deadline = clock.promise(self, leaseEndsMs - 1)
    world.passed = 'dispatcher.before_send'
    yield
    if (clock.nowMs >= leaseEndsMs) history.see('sent past the lease')
    checks.onSend(mine, clock.nowMs)
    const answer = world.answer()
    const send: Send = {
      process: self,
      life: self.life,
      delivery: leased.id,
      place: mine.place,
      generation: leased.generation,
      ok: answer === 'ok',
      token,
      isSettled: false,
    }
    history.sends.push(send)
    const turn = history.turns.get(mine.place)
    if (turn) turn.sent = true
    world.say?.(`${name} sends ${leased.id} (attempt ${leased.attempt}): ${answer}`)
    checks.onAnswer(mine.place)
    world.passed = 'dispatcher.after_send'
    yield

    // Kept and tried again until its COMMIT is known.
    const result = {
      delivery: leased.id,
      token,
      generation: leased.generation,
      attempt: leased.attempt,
      ok: send.ok,
      isSlow: answer === 'slow',
      isLast: leased.failures + 1 >= failuresMax,
    }
    for (;;) {
      const reply = yield* postgres.query({
        name: 'T5',
        client: self,
        synchronous: false,
        token,
        body: (tx) => recordResult(tx, world, result),
      })
      if (reply.kind !== 'committed') continue
      feeder.enqueue(reply.value)
      break
    }
    send.isSettled = true
    world.say?.(`${name} has recorded attempt ${leased.attempt} of ${leased.id}: ${answer}`)
    clock.keep(deadline)
    world.passed = 'dispatcher.after_result'
    yield
    yield* unblockBehind(world, self, [leased])
    if (flaws.windowInRedis) countDown(leased.destination)
    feeder.request([leased.destination])
    world.passed = 'dispatcher.after_feed'
    yield
  }

  function* sweepLeasesLoop({ self, feeder }: Memory): Steps {
    for (let nextMs = 0; ; nextMs = clock.nowMs + timing.loopEveryMs) {
      clock.alarm(nextMs)
      yield () => clock.nowMs >= nextMs && hasLeaseOver(world)
      const reply = yield* postgres.query({
        name: 'T6',
        client: self,
        synchronous: false,
        body: (tx) => sweepLeases(tx, world),
      })
      if (reply.kind !== 'committed') continue
      yield* unblockBehind(world, self, reply.value)
      feeder.request(reply.value.map(({ destination }) => destination))
    }
  }

  /** T7: never added again, never renumbered, leased in place; as many as sockets are free. */
  function* sweepQueuedLoop(memory: Memory): Steps {
    for (let nextMs = 0; ; nextMs = clock.nowMs + timing.loopEveryMs) {
      clock.alarm(nextMs)
      yield () => clock.nowMs >= nextMs && hasDueQueued(world)
      // One at least, which waits its turn: a consumer with a backlog takes every slot that comes free.
      const due = dueQueued(world).slice(0, Math.max(1, memory.slotsFree))
      yield
      if (flaws.sweeperBumpsGeneration || flaws.keptJobsReAdded) {
        const reply = yield* postgres.query({
          name: 'T7',
          client: memory.self,
          synchronous: false,
          body: (tx) => renew(tx, world, due),
        })
        if (reply.kind === 'committed') memory.feeder.enqueue(reply.value)
        continue
      }
      if (due.length > 0)
        world.say?.(`${name} sweeps queued ${due.map(({ id, generation }) => `${id} g${generation}`).join(', ')}`)
      let left = due.length
      for (const hint of due) {
        history.see('queued delivery leased by the sweep')
        world.machine.spawn(memory.self, deliver(memory, hint, { leased: () => void (left -= 1) }))
      }
      // For the leases, which take these rows out of the next round, and not for the attempts.
      yield () => left === 0
    }
  }

  function countDown(destination: string): void {
    redis.numbers.set(destination, (redis.numbers.get(destination) ?? 0) - 1)
  }

  function isOrdered(delivery: string): boolean {
    return (postgres.deliveries.get(delivery)?.orderKey ?? null) !== null
  }

  return machine.add(name, (self) => {
    const memory: Memory = { self, feeder: startFeeder(world, self), slotsFree: slotsMax, wanted: new Set() }
    for (let i = 0; i < consumers; i++) world.machine.spawn(self, consume(memory))
    if (!flaws.noLeaseSweep) world.machine.spawnSweep(self, sweepLeasesLoop(memory))
    if (!flaws.noQueuedSweep) world.machine.spawnSweep(self, sweepQueuedLoop(memory))
    world.machine.spawnSweep(self, watchEpoch(world, self))
  })
}
