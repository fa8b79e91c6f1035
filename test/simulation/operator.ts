import { unblockBehind } from './blocked.ts'
import type { Transaction } from './postgres.ts'
import type { Process, Steps } from './process.ts'
import { isTerminal, newDelivery, type DeliveryRow } from './rows.ts'
import type { World } from './world.ts'

/** An operator asks again, with the same key, while the answer is unknown. */
const triesMax = 3

const names = { nothing: 'T8', cancel: 'T8', pause: 'T9', replay: 'T10' } as const

/** One operator with one wish. What is acknowledged must hold; the console itself is struck by no fault, only its transactions are. */
export function startOperator(world: World): Process {
  const { plan, postgres, flaws, history, machine, say } = world
  const { deliveries, destinations, replays } = postgres
  const { does, target } = plan.operator

  /** What was acknowledged; undefined when nothing was. */
  function* durably<Value>(
    self: Process,
    synchronous: boolean,
    body: (tx: Transaction) => Steps<Value>,
  ): Steps<Value | undefined> {
    for (let tries = 0; tries < triesMax; tries++) {
      const reply = yield* postgres.query({ name: names[does], client: self, synchronous, body })
      if (reply.kind === 'committed') return reply.value
    }
    return undefined
  }

  function* momentToAct(): Steps {
    let isPassed = plan.operator.moment === 'anywhere'
    yield () => deliveries.size > 0 && (isPassed ||= world.passed === plan.operator.moment)
  }

  function* targetWhere(isWanted: (row: DeliveryRow) => boolean): Steps<DeliveryRow | undefined> {
    const wanted = () => [...deliveries.values()].filter(isWanted)
    yield* momentToAct()
    yield () => deliveries.size > 0 && wanted().length > 0
    return wanted()[target % wanted().length]
  }

  /** T8. */
  function* cancel(self: Process): Steps {
    const row = yield* targetWhere((each) => !isTerminal(each))
    if (row === undefined) return
    const isAcknowledged = yield* durably(self, !flaws.asyncCancel, function* (tx) {
      yield* tx.lock(row.id)
      const now = tx.read(deliveries, row.id)
      if (!now || isTerminal(now)) return now?.state === 'cancelled'
      const waits = now.state === 'leased' && !flaws.cancelFreesLease
      tx.write(deliveries, row.id, {
        ...now,
        cancelRequested: true,
        ...(waits ? {} : { token: null, state: 'cancelled', dueAtMs: null }),
      })
      return true
    })
    if (!isAcknowledged) return
    say?.(`cancelling ${row.id} is acknowledged`)
    history.cancelled.add(row.id)
    world.passed = 'operator.acknowledged'
    yield
    yield* unblockBehind(world, self, [row])
  }

  /** T9: the destination's row only. */
  function* pauseAndResume(self: Process): Steps {
    const id = plan.connections[target % plan.connections.length]?.destination ?? ''
    const set = (paused: boolean) =>
      function* (tx: Transaction): Steps<true> {
        yield* tx.lock(id)
        const row = tx.read(destinations, id)
        if (row) tx.write(destinations, id, { ...row, paused, closedUntilMs: paused ? row.closedUntilMs : -Infinity })
        if (paused || !flaws.heldStoredPerRow) return true
        for (const delivery of deliveries.values()) {
          if (delivery.state === 'held' && delivery.destination === id)
            tx.write(deliveries, delivery.id, { ...delivery, state: 'pending', dueAtMs: tx.startedMs })
        }
        return true
      }
    yield* momentToAct()
    if (yield* durably(self, true, set(true))) {
      say?.(`pausing ${id} is acknowledged`)
      history.pausedAt.set(id, postgres.begun())
      world.passed = 'operator.acknowledged'
      yield
      // As long as an operator would take, so that a pause is seen by somebody.
      for (let i = 0; i < target * 20; i++) yield
    }
    // Again if need be: a pause that was cut off unanswered may be committed after the resume.
    for (;;) {
      yield () => destinations.get(id)?.paused === true
      history.pausedAt.delete(id)
      yield* durably(self, true, set(false))
      say?.(`${id} is resumed`)
    }
  }

  /** T10: a new delivery, derived from the request's key, at the end of the order. */
  function* replay(self: Process): Steps {
    const old = yield* targetWhere(() => true)
    if (old === undefined) return
    const id = `${old.event}>${old.connection}~replay`
    const turn = {
      event: null,
      place: id,
      connection: old.connection,
      orderKey: old.orderKey ?? '',
      arrivedAt: world.step,
      answeredAt: undefined as number | undefined,
      sent: false,
    }
    if (old.orderKey !== null) history.turns.set(id, turn)
    const isAcknowledged = yield* durably(self, !flaws.asyncReplay, function* (tx) {
      yield* tx.lock('replay')
      if (tx.read(replays, 'replay') !== undefined) return true
      tx.write(replays, 'replay', id)
      tx.write(deliveries, id, {
        ...newDelivery,
        id,
        event: old.event,
        connection: old.connection,
        destination: old.destination,
        orderKey: old.orderKey,
        seq: postgres.nextSeq(),
        isReplay: true,
        dueAtMs: tx.startedMs,
      })
      return true
    })
    if (!isAcknowledged) return
    say?.(`replaying ${id} is acknowledged`)
    turn.answeredAt = world.step
    history.replayed.add(id)
    world.passed = 'operator.acknowledged'
    yield
  }

  return machine.add('operator', (self) => {
    const wishes = { nothing: undefined, cancel, pause: pauseAndResume, replay }
    const wish = wishes[does]
    if (wish) world.machine.spawn(self, wish(self))
  })
}
