import type { Transaction } from './postgres.ts'
import type { Process, Steps } from './process.ts'
import type { EpochRow } from './rows.ts'
import { timing, type World } from './world.ts'

export const epochRow = 'redis'

/** Moves on from the epoch that was read; true for one copy only. */
function* winEpoch(tx: Transaction, { postgres }: World, seen: EpochRow, now: EpochRow): Steps<boolean> {
  yield* tx.lock(epochRow)
  const row = tx.read(postgres.epoch, epochRow)
  if (row?.key !== seen.key || row.runId !== seen.runId) return false
  tx.write(postgres.epoch, epochRow, now)
  return true
}

/** What waits for jobs that are gone wakes up, one a millisecond. */
function* wakeWaiting(tx: Transaction, { postgres, clock }: World): Steps {
  const { deliveries, events } = postgres
  const queued = [...deliveries.values()].filter((row) => row.state === 'queued').toSorted(byDueAt)
  const accepted = [...events.values()].filter((row) => row.state === 'accepted')
  yield
  for (const [place, { id }] of [...queued, ...accepted].entries()) {
    if (!tx.tryLock(id)) continue
    const dueAtMs = tx.startedMs + place + 1
    const row = deliveries.get(id)
    if (row?.state === 'queued') tx.write(deliveries, id, { ...row, dueAtMs })
    const event = events.get(id)
    if (event?.state === 'accepted') tx.write(events, id, { ...event, dueAtMs })
    clock.alarm(dueAtMs)
  }
}

const byDueAt = (a: { dueAtMs: number | null }, b: { dueAtMs: number | null }) => (a.dueAtMs ?? 0) - (b.dueAtMs ?? 0)

/** In every dispatcher: one copy wins a wiped, restarted or rewound Redis, marks it, and wakes what waited for its jobs. */
export function* watchEpoch(world: World, self: Process): Steps {
  const { postgres, redis, clock, history } = world
  const stored = () => postgres.epoch.get(epochRow)
  const isStrange = () => stored()?.key !== redis.key || stored()?.runId !== redis.runId
  for (let nextMs = 0; ; nextMs = clock.nowMs + timing.loopEveryMs) {
    clock.alarm(nextMs)
    yield () => clock.nowMs >= nextMs && redis.up && isStrange()
    const seen = stored()
    if (seen === undefined || !isStrange()) continue
    const now = { runId: redis.runId, key: world.newNumber() }
    redis.key = now.key
    const won = yield* postgres.query({
      name: 'epoch',
      client: self,
      synchronous: false,
      body: (tx) => winEpoch(tx, world, seen, now),
    })
    if (won.kind !== 'committed' || !won.value) continue
    world.say?.(`${self.name} won a new Redis epoch`)
    history.see('new Redis epoch')
    world.passed = 'dispatcher.epoch_won'
    yield
    yield* postgres.query({ name: 'epoch', client: self, synchronous: false, body: (tx) => wakeWaiting(tx, world) })
    // Again: a copy that lost may have written its own key meanwhile.
    if (redis.up) redis.key = now.key
  }
}
