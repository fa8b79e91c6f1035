import type { Transaction } from './postgres.ts'
import type { Process, Steps } from './process.ts'
import type { Job } from './redis.ts'
import type { World } from './world.ts'

/** BullMQ's: a dead worker's job comes back, and no count of that says anything about its deliveries. */
export function startStalledCheck(world: World): void {
  const { redis, machine, flaws } = world

  function* check(self: Process): Steps {
    for (;;) {
      yield () => redis.orphans().length > 0
      const [job] = redis.orphans()
      if (job === undefined) continue
      if (flaws.queueFailureFinal) yield* fail(self, job)
      else redis.putBack(job)
    }
  }

  /** Under a control. */
  function* fail(self: Process, job: Job): Steps {
    redis.remove(job)
    yield* world.postgres.query({ name: 'T7', client: self, synchronous: false, body: (tx) => endAll(tx, world, job) })
  }

  machine.add('stalled check', (self) => void machine.spawn(self, check(self)))
}

function* endAll(tx: Transaction, { postgres }: World, { hints }: Job): Steps {
  for (const { id } of hints) {
    yield* tx.lock(id)
    const row = tx.read(postgres.deliveries, id)
    if (row && row.dueAtMs !== null)
      tx.write(postgres.deliveries, id, { ...row, state: 'dead', dueAtMs: null, token: null })
  }
}
