import type { Transaction } from './postgres.ts'
import type { Steps } from './process.ts'
import { isAdmitted, isTerminal, isWaiting, type DeliveryRow } from './rows.ts'
import type { World } from './world.ts'

/** T3, `feed_v1`, for each of these destinations. `skipped` were held by another feeder. */
export function* feed(
  tx: Transaction,
  world: World,
  wanted: readonly string[],
  queueWaitMs: number,
): Steps<{ admitted: DeliveryRow[]; skipped: string[] }> {
  const { postgres, flaws, history } = world
  const admitted: DeliveryRow[] = []
  const skipped: string[] = []
  for (const id of wanted) {
    if (!hasDue(world, id, tx.startedMs)) continue
    const stale = flaws.windowCountedInLockStatement ? roomOf(world, id) : undefined
    yield
    // Statement 1: the destination's lock, in a statement of its own.
    const destination = postgres.destinations.get(id)
    if (!destination || destination.paused || destination.closedUntilMs > tx.startedMs) continue
    if (!flaws.windowWithoutLock && !tx.tryLock(id)) {
      history.see('destination skipped: another feeder holds it')
      skipped.push(id)
      continue
    }
    yield
    // Statement 2: its snapshot says what there is room for, and which rows pass the order gate …
    let passing = dueRows(world, id, tx.startedMs)
    if (flaws.orderInTwoStatements) {
      passing = passing.filter((row) => isFirstUnfinished(world, row))
      yield
      passing = passing.filter((row) => hasNoUnrouted(world, row))
    } else passing = passing.filter((row) => passesOrder(world, row))
    const behind = dueRows(world, id, tx.startedMs).filter((row) => !isFirstUnfinished(world, row))
    let room = stale ?? roomOf(world, id)
    yield
    for (const { id: delivery } of behind) {
      const row = postgres.deliveries.get(delivery)
      if (row && isDue(row, tx.startedMs) && tx.tryLock(delivery))
        tx.write(postgres.deliveries, delivery, { ...row, blocked: true })
    }
    // … then it locks them, SKIP LOCKED, with another look at the locked row, up to that room.
    for (const { id: delivery } of passing) {
      if (room === 0) break
      const row = postgres.deliveries.get(delivery)
      if (!row || !isDue(row, tx.startedMs) || !tx.tryLock(delivery)) continue
      admitted.push(admit(tx, world, row, queueWaitMs))
      room -= 1
    }
    yield
  }
  return { admitted, skipped }
}

/** `pending`/`retrying` → `queued, generation + 1`. */
export function admit(tx: Transaction, world: World, row: DeliveryRow, queueWaitMs: number): DeliveryRow {
  const dueAtMs = tx.startedMs + queueWaitMs
  const queued: DeliveryRow = { ...row, state: 'queued', generation: row.generation + 1, dueAtMs }
  tx.write(world.postgres.deliveries, row.id, queued)
  world.clock.alarm(dueAtMs)
  return queued
}

/** Window − count(queued, leased), in one snapshot. */
export function roomOf({ postgres, flaws, redis }: World, destination: string): number {
  const admitted = [...postgres.deliveries.values()].filter(
    (row) => row.destination === destination && isAdmitted(row),
  ).length
  const taken = flaws.windowInRedis ? (redis.numbers.get(destination) ?? 0) : admitted
  return Math.max(0, (postgres.destinations.get(destination)?.window ?? 0) - taken)
}

/** What T3 looks at. */
const isDue = (row: DeliveryRow, nowMs: number) => isWaiting(row) && !row.blocked && (row.dueAtMs ?? Infinity) <= nowMs

export function dueRows({ postgres }: World, destination: string, nowMs: number): DeliveryRow[] {
  return [...postgres.deliveries.values()]
    .filter((row) => row.destination === destination && isDue(row, nowMs))
    .sort((a, b) => (a.dueAtMs ?? 0) - (b.dueAtMs ?? 0) || a.seq - b.seq)
}

export function hasDue({ postgres }: World, destination: string, nowMs: number): boolean {
  for (const row of postgres.deliveries.values()) if (row.destination === destination && isDue(row, nowMs)) return true
  return false
}

/** `dueDestinations`: those that may be fed now. */
export function dueDestinations(world: World): string[] {
  const { postgres, clock } = world
  return [...postgres.destinations.values()]
    .filter(
      (destination) =>
        !destination.paused && destination.closedUntilMs <= clock.nowMs && hasDue(world, destination.id, clock.nowMs),
    )
    .map((destination) => destination.id)
}

/** The order gate, both conditions asked in one statement. */
function passesOrder(world: World, row: DeliveryRow): boolean {
  const passes = isFirstUnfinished(world, row) && (world.flaws.orderWithoutUnrouted || hasNoUnrouted(world, row))
  if (!passes) world.history.see('held back by its order')
  return passes
}

function isFirstUnfinished({ postgres, flaws }: World, row: DeliveryRow): boolean {
  if (row.orderKey === null) return true
  for (const other of postgres.deliveries.values()) {
    const counts = flaws.orderByInFlight ? isAdmitted(other) : !isTerminal(other)
    if (other.connection === row.connection && other.orderKey === row.orderKey && other.seq < row.seq && counts)
      return false
  }
  return true
}

function hasNoUnrouted({ postgres }: World, row: DeliveryRow): boolean {
  if (row.orderKey === null) return true
  for (const event of postgres.events.values()) if (event.state === 'accepted' && event.seq < row.seq) return false
  return true
}
