import { isAccepted, isBefore, type Attempt, type History, type Turn } from './history.ts'
import type { Postgres, Transaction } from './postgres.ts'
import { isAdmitted, isTerminal, placeOf, type DeliveryRow, type EventRow } from './rows.ts'
import { isHealthy, type Scenario } from './scenario.ts'
import { failuresMax, type World } from './world.ts'

/** The properties of PROTOCOL §3 (S) and §5 (S7, S8, W), and with them those of DESIGN §3 (I). */
export const properties = {
  S1: 'every accepted event ends for every destination, with no hand laid on it; a destination that always answers 2xx gets it (I1, I8)',
  S2: 'nothing is sent that was not committed for good (I2)',
  S3: 'an admission is sent once without faults, and not after `delivered` was recorded (I4)',
  S4: '2xx answers are at most one, and one for each kill, pause past the lease and Postgres crash (I4)',
  S5: 'no unfinished row is without a wake-up time, no leased one without a token (I6)',
  S6: 'a success ends in `delivered` and is never undone; a stale failure changes nothing, and a living lease is its owner’s',
  S7: 'strict order: n + 1 is not sent before n is over',
  S8: 'strict order: n is not sent after n + 1, but by a process that was stopped between its look at the clock and the send',
  S9: 'what an operator was told holds',
  I3: 'one event for a request and for a dedupe key, one delivery for an event and connection, under one id',
  W: 'no more deliveries of a destination are admitted than its window',
  deadlock: 'no transactions wait for each other',
  prompt: 'without faults a job brings every admission, and none waits for a sweep',
} as const
export type Property = keyof typeof properties

export class Violation extends Error {
  readonly property: Property
  constructor(property: Property, text: string) {
    super(`${property} (${properties[property]}): ${text}`)
    this.property = property
  }
}

/** All properties: at each commit, each send and each add, and when everything has come to rest. The same for every run, negative controls included. */
export interface Checks {
  onDelivery(before: DeliveryRow | undefined, after: DeliveryRow, tx: Transaction): void
  onEvent(after: EventRow): void
  onSend(attempt: Attempt, nowMs: number): void
  onAnswer(place: string): void
  onResultRefused(delivery: string): void
  onDeadlock(text: string): void
  onAdd(outcome: 'added' | 'swallowed' | 'failed', id: string): void
  atRest(world: World): void
}

/** Faults that may cost a duplicate each (S4). */
const duplicating = ['kill', 'pause', 'postgres crash'] as const

export function createChecks({
  plan,
  history,
  postgres,
}: {
  plan: Scenario
  history: History
  postgres: () => Postgres
}): Checks {
  const sendsOf = (delivery: string) => history.sends.filter((send) => send.delivery === delivery)
  const successesOf = (place: string) => history.sends.filter((send) => send.place === place && send.ok).length
  const failedAnswersOf = (delivery: string) => sendsOf(delivery).filter((send) => !send.ok).length
  /** The id under which a place was sent first. */
  const idsSent = new Map<string, string>()
  /** The event that a request became. */
  const eventOf = new Map<string, string>()

  function broken(property: Property, text: string): never {
    throw new Violation(property, text)
  }

  /** n had a 2xx, or is dead or cancelled in Postgres. */
  function isOver({ place }: Turn): boolean {
    if (successesOf(place) > 0) return true
    for (const row of postgres().deliveries.values())
      if (placeOf(row) === place && (row.state === 'dead' || row.state === 'cancelled')) return true
    return false
  }

  return {
    onDelivery(before, after, tx) {
      const { deliveries, destinations } = postgres()
      const { id, destination } = after
      if (isTerminal(after) !== (after.dueAtMs === null) || (after.state === 'leased') !== (after.token !== null))
        broken('S5', `a row that no check constraint lets pass: ${JSON.stringify(after)}`)
      if (before?.state === 'delivered' && after.state !== 'delivered')
        broken('S6', `${id} was delivered and is ${after.state}`)
      if (isAdmitted(after)) {
        const admitted = [...deliveries.values()].filter(
          (row) => row.destination === destination && isAdmitted(row),
        ).length
        const window = destinations.get(destination)?.window ?? 0
        if (admitted > window)
          broken('W', `${admitted} deliveries of ${destination} are admitted, its window is ${window}`)
      }
      const wasAlive = before?.state === 'leased' && tx.startedMs < (before.dueAtMs ?? 0)
      if (wasAlive && before.token !== after.token && before.token !== tx.token)
        broken('S6', `the living lease of ${id} was ended by ${tx.client.name}, whose it isn't`)
      const isNewLease = after.state === 'leased' && before?.state !== 'leased'
      if (isNewLease && history.cancelled.has(id))
        broken('S9', `${id} was leased after its cancelling was acknowledged`)
      if (isNewLease && tx.number > (history.pausedAt.get(destination) ?? Infinity))
        broken('S9', `${id} was leased after pausing ${destination} was acknowledged`)
      if (after.failures > failedAnswersOf(id))
        broken('S6', `${id} counts ${after.failures} failures; its destination failed ${failedAnswersOf(id)} times`)
    },

    onEvent(after) {
      const first = eventOf.get(after.call)
      if (first !== undefined && first !== after.id)
        broken('I3', `request ${after.call} became two events, ${first} and ${after.id}`)
      eventOf.set(after.call, after.id)
    },

    onSend(attempt, nowMs) {
      const { delivery, place, generation } = attempt
      const { events, deliveries, isDurable } = postgres()
      const overran = nowMs >= attempt.leaseEndsMs
      if (!events.has(attempt.event) || !isDurable(events, attempt.event))
        broken('S2', `${delivery} is sent, and ${attempt.event} was not committed for good`)
      if (deliveries.get(delivery)?.state === 'delivered' && !overran && !(attempt.leaseLost && !attempt.ordered))
        broken('S3', `${delivery} is sent after it was recorded as delivered`)
      if (
        history.struck.size === 0 &&
        history.sends.some((send) => send.delivery === delivery && send.generation === generation)
      )
        broken('S3', `without any fault, ${delivery} is sent twice in generation ${generation}`)
      const known = idsSent.get(place) ?? delivery
      if (known !== delivery)
        broken('I3', `${place} is sent as ${known} and as ${delivery}: nobody can tell that it is the same`)
      idsSent.set(place, delivery)
      const turn = history.turns.get(place)
      if (turn === undefined) return
      for (const other of history.turns.values()) {
        if (isBefore(other, turn) && !isOver(other))
          broken('S7', `${delivery} is sent and ${other.place}, accepted before it, is not over`)
        const mayRepeat = overran && attempt.checkedAtMs !== undefined
        if (isBefore(turn, other) && other.sent && !mayRepeat)
          broken('S8', `${delivery} is sent after ${other.place}, which was accepted after it`)
      }
    },

    onAnswer(place) {
      const allowed = 1 + duplicating.reduce((sum, kind) => sum + (history.struck.get(kind) ?? 0), 0)
      if (successesOf(place) > allowed)
        broken('S4', `${place} was answered 2xx ${successesOf(place)} times; the faults allow ${allowed}`)
    },

    onDeadlock(text) {
      broken('deadlock', text)
    },

    onResultRefused(delivery) {
      broken('S6', `Postgres refuses a result of ${delivery}, and with it its whole batch, however often it is tried`)
    },

    onAdd(outcome, id) {
      if (outcome === 'swallowed' && history.struck.size === 0) broken('prompt', `the add of ${id} was swallowed`)
    },

    atRest({ redis }) {
      const { events, deliveries, attempts, replays } = postgres()
      const rows = [...deliveries.values()]
      for (const call of history.calls) {
        const { answer } = call
        if (answer === undefined || !isAccepted(call) || !('event' in answer)) continue
        if (!events.has(answer.event))
          broken('S1', `${call.name} was answered 2xx, and its event ${answer.event} is gone`)
      }
      for (const event of events.values()) {
        if (event.state !== 'routed') broken('S1', `${event.id} is never routed`)
        for (const { id } of plan.connections) {
          const made = rows.filter((row) => row.event === event.id && row.connection === id && !row.isReplay).length
          if (made !== 1) broken(made === 0 ? 'S1' : 'I3', `${event.id} has ${made} deliveries over ${id}`)
        }
      }
      const keys = [...events.values()].flatMap(
        (event) => history.calls.find((call) => call.name === event.call)?.key ?? [],
      )
      if (new Set(keys).size < keys.length) broken('I3', 'two events have one dedupe key')
      for (const row of rows) {
        if (!isTerminal(row)) broken('S1', `${row.id} rests as ${row.state}, due at ${row.dueAtMs}`)
        if (isHealthy(plan) && row.state === 'dead')
          broken('S1', `${row.id} is dead, and its destination answers 2xx only`)
        if (row.state === 'dead' && failedAnswersOf(row.id) < failuresMax)
          broken('S1', `${row.id} is dead after ${failedAnswersOf(row.id)} failed attempts of ${failuresMax}`)
        if (row.state === 'delivered' && successesOf(placeOf(row)) === 0)
          broken('S6', `${row.id} is delivered, and no 2xx was ever answered`)
      }
      for (const { delivery, succeeded } of attempts.values()) {
        const state = deliveries.get(delivery)?.state
        if (succeeded && state !== 'delivered') broken('S6', `a 2xx of ${delivery} was recorded, and it is ${state}`)
      }
      for (const send of history.sends) {
        if (send.process.life === send.life && !send.isSettled)
          broken('S6', `a result of ${send.delivery} is never recorded`)
      }
      for (const id of history.replayed)
        if (![...replays.values()].includes(id) || !deliveries.has(id))
          broken('S9', `the replay ${id} was acknowledged and is gone`)
      if (!redis.isPaused && redis.active().length + redis.waiting().length > 0) broken('S1', 'jobs are left in Redis')
    },
  }
}
