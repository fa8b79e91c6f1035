import { admit, dueRows } from './feed.ts'
import { Refused, type Transaction } from './postgres.ts'
import type { Steps } from './process.ts'
import { isAdmitted, isTerminal, type DeliveryRow } from './rows.ts'
import { timing, type World } from './world.ts'

export interface Result {
  readonly delivery: string
  readonly token: string
  readonly generation: number
  readonly attempt: number
  readonly ok: boolean
  /** 429: its destination is closed for a while. */
  readonly isSlow: boolean
  /** The dispatcher decides by the failures that the lease told it: no retry is left. */
  readonly isLast: boolean
}

/** T5, `recordResults`: the attempt row (T5c), then a success (T5a) or a failure (T5b). What a flawed variant admitted with it is returned. */
export function* recordResult(tx: Transaction, world: World, result: Result): Steps<DeliveryRow[]> {
  const { deliveries } = world.postgres
  keepAttempt(tx, world, result)
  yield
  if (!deliveries.has(result.delivery)) return []
  yield* tx.lock(result.delivery)
  const row = tx.read(deliveries, result.delivery)
  const next = row && (result.ok ? afterSuccess(world, row, result) : afterFailure(world, row, result, tx.startedMs))
  if (next === undefined) return []
  // Deliveries first, then the destination: T3 locks the other way round, and skips locked deliveries.
  if (result.isSlow) yield* closeDestination(tx, world, next.destination)
  tx.write(deliveries, next.id, next)
  if (next.dueAtMs !== null) world.clock.alarm(next.dueAtMs)
  if (!world.flaws.resultAdmitsUnasked || isAdmitted(next)) return []
  const waiting = dueRows(world, next.destination, tx.startedMs).find(
    (other) => other.id !== next.id && other.orderKey === null && tx.tryLock(other.id),
  )
  return waiting ? [admit(tx, world, waiting, timing.queueWaitMs)] : []
}

function* closeDestination(tx: Transaction, { postgres, clock }: World, id: string): Steps {
  yield
  yield* tx.lock(id)
  const row = tx.read(postgres.destinations, id)
  if (row === undefined) return
  const closedUntilMs = Math.max(row.closedUntilMs, tx.startedMs + timing.closedMs)
  tx.write(postgres.destinations, id, { ...row, closedUntilMs })
  clock.alarm(closedUntilMs)
}

/** T5c: keyed by the lease, without a foreign key; a second insert is no error. */
function keepAttempt(
  tx: Transaction,
  { postgres, flaws, checks }: World,
  { delivery, token, attempt, ok }: Result,
): void {
  const { attempts, deliveries } = postgres
  const id = flaws.attemptsKeyedByNumber ? `${delivery} ${attempt}` : `${delivery} ${token}`
  const isTaken = flaws.attemptsKeyedByNumber && attempts.has(id) && attempts.get(id)?.token !== token
  if (isTaken || (flaws.attemptsWithForeignKey && !deliveries.has(delivery))) {
    checks.onResultRefused(delivery)
    throw new Refused('row', id)
  }
  if (!attempts.has(id)) tx.write(attempts, id, { delivery, token, succeeded: ok && deliveries.has(delivery) })
}

/** T5a: a success always counts, and never ends another's living lease. */
function afterSuccess({ flaws, history }: World, row: DeliveryRow, { token }: Result): DeliveryRow | undefined {
  if (row.state === 'delivered') {
    history.see('result recorded twice')
    return undefined
  }
  const isMine = row.state === 'leased' && row.token === token
  if (flaws.successNeedsLease && !isMine) return undefined
  if (!isMine) history.see('late success')
  if (row.state === 'leased' && !isMine && !flaws.lateSuccessEndsLease) {
    history.see('late success beside a living lease')
    return { ...row, succeeded: true }
  }
  return { ...row, token: null, state: 'delivered', succeeded: true, dueAtMs: null }
}

/** T5b: a failure counts under its own token only. */
function afterFailure(world: World, row: DeliveryRow, result: Result, nowMs: number): DeliveryRow | undefined {
  if (!countsFailure(world, row, result)) {
    world.history.see('stale failure')
    return undefined
  }
  const state = row.succeeded ? 'delivered' : row.cancelRequested ? 'cancelled' : result.isLast ? 'dead' : 'retrying'
  return {
    ...row,
    token: null,
    state,
    failures: row.failures + 1,
    dueAtMs: state === 'retrying' ? nowMs + timing.retryDelayMs : null,
  }
}

function countsFailure({ flaws }: World, row: DeliveryRow, { token, generation, attempt }: Result): boolean {
  if (flaws.failureUnmatched) return !isTerminal(row)
  if (row.state !== 'leased') return false
  if (flaws.failureByState) return true
  if (flaws.failureByNumber) return row.generation === generation && row.attempt === attempt
  return row.token === token
}
