import type { Transaction } from './postgres.ts'
import type { Steps } from './process.ts'
import type { Hint } from './redis.ts'
import type { DeliveryRow } from './rows.ts'
import { failuresMax, lostLeasesMax, timing, type World } from './world.ts'

/** T6, `sweepLeases`: the condition stands in the locking statement. Returns what it ended or sent back. */
export function* sweepLeases(tx: Transaction, world: World): Steps<DeliveryRow[]> {
  const { postgres, flaws, history } = world
  const isOver = (row: DeliveryRow) => row.state === 'leased' && (row.dueAtMs ?? Infinity) <= tx.startedMs
  const over = [...postgres.deliveries.values()].filter(isOver)
  if (flaws.sweepSelectsThenUpdates) yield
  const swept: DeliveryRow[] = []
  for (const { id } of over) {
    if (flaws.sweepSelectsThenUpdates) yield* tx.lock(id)
    else if (!tx.tryLock(id)) continue
    const row = postgres.deliveries.get(id)
    if (!row) continue
    history.see('lease swept')
    const lostLeases = row.lostLeases + 1
    const isDead =
      lostLeases >= lostLeasesMax || (flaws.retryLimitCountsLeases && lostLeases + row.failures >= failuresMax)
    const state =
      row.succeeded && !flaws.sweepSelectsThenUpdates
        ? 'delivered'
        : row.cancelRequested
          ? 'cancelled'
          : isDead
            ? 'dead'
            : 'retrying'
    tx.write(postgres.deliveries, id, {
      ...row,
      token: null,
      state,
      lostLeases,
      dueAtMs: state === 'retrying' ? tx.startedMs : null,
    })
    swept.push(row)
  }
  yield
  return swept
}

/** T7, `dueQueued`: what no job brought in time. */
export function dueQueued({ postgres, clock }: World): Hint[] {
  return [...postgres.deliveries.values()]
    .filter((row) => row.state === 'queued' && (row.dueAtMs ?? Infinity) <= clock.nowMs)
    .map(({ id, generation }) => ({ id, generation }))
}

export function hasDueQueued({ postgres, clock }: World): boolean {
  for (const row of postgres.deliveries.values())
    if (row.state === 'queued' && (row.dueAtMs ?? Infinity) <= clock.nowMs) return true
  return false
}

export function hasLeaseOver({ postgres, clock }: World): boolean {
  for (const row of postgres.deliveries.values())
    if (row.state === 'leased' && (row.dueAtMs ?? Infinity) <= clock.nowMs) return true
  return false
}

/** In place of T7, under controls: the overdue rows get a new wait and, perhaps, a new number, to be added to the queue again. */
export function* renew(tx: Transaction, world: World, hints: readonly Hint[]): Steps<DeliveryRow[]> {
  const { deliveries } = world.postgres
  const renewed: DeliveryRow[] = []
  for (const { id, generation } of hints) {
    const row = deliveries.get(id)
    if (row?.state !== 'queued' || row.generation !== generation || !tx.tryLock(id)) continue
    const dueAtMs = tx.startedMs + timing.queueWaitMs
    const next = { ...row, generation: row.generation + (world.flaws.sweeperBumpsGeneration ? 1 : 0), dueAtMs }
    tx.write(deliveries, id, next)
    world.clock.alarm(dueAtMs)
    renewed.push(next)
  }
  yield
  return renewed
}
