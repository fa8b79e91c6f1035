import { hasDue, roomOf } from './feed.ts'
import type { Transaction } from './postgres.ts'
import type { Steps } from './process.ts'
import { newDelivery, type DeliveryRow, type EventRow } from './rows.ts'
import type { World } from './world.ts'

/** T2, `route_v1`: T2 and T3 in one transaction where a delivery can be admitted as it is made. */
export function* route(
  tx: Transaction,
  world: World,
  ids: readonly string[],
  queueWaitMs: number,
): Steps<{ queued: DeliveryRow[]; toFeed: string[] }> {
  const { plan, postgres, flaws, history } = world
  const { events, deliveries, destinations } = postgres
  const wanted = [...new Set(plan.connections.map((connection) => connection.destination))]
  const roomsNow = () => new Map(wanted.map((id) => [id, hasDue(world, id, tx.startedMs) ? 0 : roomOf(world, id)]))
  const stale = flaws.windowCountedInLockStatement ? roomsNow() : undefined
  if (stale) yield
  // Statement 1: the destinations' locks, SKIP LOCKED.
  const open = wanted.filter((id) => {
    const destination = destinations.get(id)
    return (
      destination &&
      !destination.paused &&
      destination.closedUntilMs <= tx.startedMs &&
      (flaws.windowWithoutLock || tx.tryLock(id))
    )
  })
  yield
  // Statement 2: its snapshot says what there is room for …
  const room = stale ?? roomsNow()
  yield
  // … then it moves the events, waiting for their locks, and inserts the deliveries of those it moved.
  const moved: EventRow[] = []
  for (const id of ids.toSorted()) {
    yield* tx.lock(id)
    const event = tx.read(events, id)
    if (event?.state !== 'accepted') continue
    moved.push(event)
    tx.write(events, id, { ...event, state: 'routed', dueAtMs: null })
  }
  const queued: DeliveryRow[] = []
  const toFeed = new Set<string>()
  for (const event of moved.sort((a, b) => a.seq - b.seq)) {
    for (const connection of plan.connections) {
      const id = deliveryId(world, event.id, connection.id)
      if (deliveries.has(id)) continue
      const left = open.includes(connection.destination) ? (room.get(connection.destination) ?? 0) : 0
      const now = !connection.ordered && left > 0
      if (now) room.set(connection.destination, left - 1)
      const dueAtMs = tx.startedMs + (now ? queueWaitMs : 0)
      const row: DeliveryRow = {
        ...newDelivery,
        id,
        event: event.id,
        connection: connection.id,
        destination: connection.destination,
        seq: event.seq,
        orderKey: connection.ordered ? event.orderKey : null,
        dueAtMs,
        ...(now ? { state: 'queued', generation: 1 } : {}),
      }
      tx.write(deliveries, id, row)
      world.clock.alarm(dueAtMs)
      history.see(now ? 'admitted as it was routed' : 'left waiting as it was routed')
      if (now) queued.push(row)
      else toFeed.add(connection.destination)
    }
  }
  return { queued, toFeed: [...toFeed] }
}

/** Of T2s: what no job brought in time. */
export function dueEvents({ postgres, clock }: World): string[] {
  return [...postgres.events.values()]
    .filter((event) => event.state === 'accepted' && (event.dueAtMs ?? Infinity) <= clock.nowMs)
    .map(({ id }) => id)
}

/** Of (event, connection): the same after a routing that was lost. */
function deliveryId({ flaws, step }: World, event: string, connection: string): string {
  return flaws.randomDeliveryIds ? `${event}>${connection}?${step}` : `${event}>${connection}`
}
