import { randomUUID } from 'node:crypto'
import type { EpochReading } from '@tenterhook/queue/epoch'
import type { RedisEpoch } from '@tenterhook/store/epoch'
import type { Log } from '@tenterhook/telemetry/log'

/** Rows woken a second after a wipe: what one dispatcher can send without starving what is new. */
const wakesPerSecond = 1_000

/**
 * Notices a Redis that was wiped (our key is gone), restarted (its run id changed) or rewound (an old key is back), by
 * comparing it with what Postgres remembers. One copy wins the change, marks the Redis and wakes what waited for jobs
 * that are gone. A copy that dies in between leaves a key that doesn't match, and the next round mends it.
 */
export async function watchEpoch(deps: {
  readRedis: () => Promise<EpochReading>
  writeRedis: (key: string) => Promise<boolean>
  resetQueueFlags: () => Promise<boolean>
  readStored: () => Promise<RedisEpoch | undefined>
  win: (seen: RedisEpoch | undefined, now: RedisEpoch) => Promise<boolean>
  wake: (perSecond: number) => Promise<{ events: number; deliveries: number }>
  onEpoch: () => void
  log: Log
}): Promise<void> {
  const redis = await deps.readRedis()
  if (redis.kind === 'unreachable') return
  const stored = await deps.readStored()
  if (stored && stored.runId === redis.runId && stored.key === redis.key) return
  const now = { runId: redis.runId, key: randomUUID() }
  // A Redis that can be read and not written (full, a replica) would be new again every round.
  if (!(await deps.writeRedis(now.key))) return
  if (!(await deps.win(stored, now))) return
  const woken = await deps.wake(wakesPerSecond)
  await deps.resetQueueFlags()
  // Again: a copy that lost may have written its own key meanwhile.
  await deps.writeRedis(now.key)
  if (!stored) return
  deps.onEpoch()
  const line = { event: 'redis.new_epoch', ...woken }
  if (woken.deliveries + woken.events === 0)
    deps.log.info(line, 'Redis was restarted, wiped or rewound; nothing waited for its jobs')
  else deps.log.warn(line, 'Redis was restarted, wiped or rewound: what its jobs stood for is taken over from Postgres')
}
