import type { Call } from './history.ts'
import type { Process, Steps } from './process.ts'
import { Refused, type Transaction } from './postgres.ts'
import { timing, type World } from './world.ts'

export interface NewEvent {
  readonly id: string
  readonly call: Call
}

/** The id that answers: the event's own, or the first one's of its dedupe key. */
export type Acceptance = { kind: 'accepted' | 'duplicate'; event: string }

/** T1, `accept_v1`: keys in order, winners in a second statement, events in order of arrival; the caller commits synchronously. */
export function* accept(tx: Transaction, world: World, batch: readonly NewEvent[]): Steps<Acceptance[]> {
  const { postgres, flaws } = world
  const snapshot = new Map(postgres.dedupe)
  const keyed = batch.filter((event) => event.call.key !== null)
  if (!flaws.unsortedBatches) keyed.sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1))
  for (const event of keyed) {
    // ON CONFLICT waits for whoever inserts the same key, and locks the row that stands in the way.
    yield* tx.lock(keyOf(event))
    if (tx.read(postgres.dedupe, keyOf(event)) === undefined) tx.write(postgres.dedupe, keyOf(event), event.id)
    yield
  }

  const winnerOf = ({ id, call }: NewEvent) => {
    if (call.key === null) return id
    const winner = tx.read(postgres.dedupe, call.key)
    return flaws.winnerReadInInsert && winner !== id ? snapshot.get(call.key) : winner
  }
  return batch.map((event): Acceptance => {
    const { id, call } = event
    const winner = winnerOf(event)
    if (winner !== id)
      return winner === undefined ? { kind: 'accepted', event: id } : { kind: 'duplicate', event: winner }
    if (call.unstorable) throw new Refused('row', `${call.name} can't be stored`)
    const row = {
      id,
      call: call.name,
      seq: nextSeq(world, tx.client),
      orderKey: call.orderKey,
      state: 'accepted',
      dueAtMs: tx.startedMs + routeWaitMs(world),
    } as const
    tx.write(postgres.events, id, row)
    world.clock.alarm(row.dueAtMs)
    return { kind: 'accepted', event: id }
  })
}

const keyOf = (event: NewEvent) => event.call.key ?? ''

/** Without a queue there is nothing to wait for. */
const routeWaitMs = ({ redis }: World) => (redis.up ? timing.routeWaitMs : 0)

function nextSeq({ flaws, postgres, clock }: World, copy: Process): number {
  const seq = postgres.nextSeq()
  const isSecond = copy.name.endsWith('B')
  // The clock of one copy is behind, as of UUIDv7s made there.
  if (flaws.orderByIngestClock) return (clock.nowMs - (isSecond ? 60_000 : 0)) * 1_000 + seq
  // One copy took its numbers long ago.
  if (flaws.sequenceCached) return seq + (isSecond ? 0 : 32)
  return seq
}
