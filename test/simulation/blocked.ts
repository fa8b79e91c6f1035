import type { Transaction } from './postgres.ts'
import type { Process, Steps } from './process.ts'
import { isTerminal, type DeliveryRow } from './rows.ts'
import type { World } from './world.ts'

/**
 * The mark that keeps what waits behind an earlier one of its key out of T3's pages. The order gate is the truth: a mark
 * only spares looking, and one that is wrong is found by a sweep.
 */
type OrderKey = Pick<DeliveryRow, 'connection' | 'orderKey'>

const unfinished = ({ postgres }: World, { connection, orderKey }: OrderKey) =>
  [...postgres.deliveries.values()]
    .filter((row) => row.connection === connection && row.orderKey === orderKey && !isTerminal(row))
    .toSorted((a, b) => a.seq - b.seq)

/** After the end of these, in a transaction of its own: T3 looks again at the next of each key. */
export function* unblockBehind(world: World, client: Process, ended: readonly OrderKey[]): Steps {
  const keys = ended.filter(({ orderKey }) => orderKey !== null)
  if (keys.length === 0) return
  yield* world.postgres.query({ name: 'unblock', client, synchronous: false, body: (tx) => unblock(tx, world, keys) })
}

function* unblock(tx: Transaction, world: World, keys: readonly OrderKey[]): Steps {
  const { deliveries } = world.postgres
  const next = keys.flatMap((key) => unfinished(world, key).find((row) => row.blocked)?.id ?? [])
  yield
  for (const id of next.toSorted()) {
    yield* tx.lock(id)
    const row = tx.read(deliveries, id)
    if (row?.blocked) tx.write(deliveries, id, { ...row, blocked: false })
  }
}

/** Those whose first unfinished one is blocked: no result will come that unblocks it. */
export function stuckKeys(world: World): DeliveryRow[] {
  return [...world.postgres.deliveries.values()].filter((row) => row.blocked && unfinished(world, row)[0] === row)
}
