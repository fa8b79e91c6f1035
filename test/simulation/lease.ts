import type { Transaction } from './postgres.ts'
import type { Steps } from './process.ts'
import type { Hint } from './redis.ts'
import type { DeliveryRow } from './rows.ts'
import { timing, type World } from './world.ts'

/** T4, `lease`: the compare-and-set. Anything but a leased row: drop the job. Ordered connections commit it synchronously. */
export function* lease(
  tx: Transaction,
  world: World,
  { id, generation }: Hint,
  token: string,
): Steps<DeliveryRow | undefined> {
  const { postgres, flaws, history } = world
  const { deliveries, destinations } = postgres
  // The statement's snapshot: whether the row is there, and whether its destination is open.
  const seen = deliveries.get(id)
  const destination = seen && destinations.get(seen.destination)
  if (!isLeasable(world, seen, generation) || !destination) return refuse()
  const isClosed = !flaws.leaseIgnoresPause && (destination.paused || destination.closedUntilMs > tx.startedMs)
  const isHeld = flaws.heldStoredPerRow && destination.paused
  yield
  // Waits for the row's lock, and looks again at what it locked.
  yield* tx.lock(id)
  const row = tx.read(deliveries, id)
  if (!isLeasable(world, row, generation)) return refuse()
  const next: DeliveryRow = isClosed
    ? { ...row, token: null, state: isHeld ? 'held' : 'pending', dueAtMs: isHeld ? Infinity : tx.startedMs }
    : { ...row, state: 'leased', attempt: row.attempt + 1, token, dueAtMs: tx.startedMs + timing.leaseMs }
  tx.write(deliveries, id, next)
  world.clock.alarm(tx.startedMs + timing.leaseMs)
  if (isClosed) history.see('lease refused: destination closed')
  return next

  function refuse(): undefined {
    history.see('job refused')
    return undefined
  }
}

function isLeasable({ flaws }: World, row: DeliveryRow | undefined, generation: number): row is DeliveryRow {
  return (
    row !== undefined && row.generation === generation && (row.state === 'queued' || flaws.leaseIgnoresState === true)
  )
}

/** An admission that no socket was free for keeps its place in line; what was leased or admitted anew stays as it is. */
export function* handBack(tx: Transaction, world: World, { id, generation }: Hint): Steps {
  const { deliveries } = world.postgres
  const row = deliveries.get(id)
  if (row?.state !== 'queued' || row.generation !== generation || !tx.tryLock(id)) return
  tx.write(deliveries, id, { ...row, state: 'pending', dueAtMs: tx.startedMs })
  world.history.see('handed back')
  yield
}

/** T11, `releaseLeases`: under this lease nothing was sent. */
export function* release(tx: Transaction, world: World, id: string, token: string): Steps {
  const { deliveries } = world.postgres
  yield* tx.lock(id)
  const row = tx.read(deliveries, id)
  if (row?.state !== 'leased' || row.token !== token) return
  const state = row.succeeded ? 'delivered' : row.cancelRequested ? 'cancelled' : 'retrying'
  tx.write(deliveries, id, { ...row, token: null, state, dueAtMs: state === 'retrying' ? tx.startedMs : null })
  world.history.see('lease given back unsent')
}
