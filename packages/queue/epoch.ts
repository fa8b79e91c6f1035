import { openQueue, openRedis, type QueueLog } from './connection.ts'
import { queueNames, queuePrefix } from './names.ts'

/**
 * Tells one life of Redis from the next: a wipe loses the key, a restart changes the run id, a rewind to
 * an old dump brings an old key back. The comparison with Postgres, where the current epoch stands, is
 * the caller's (DESIGN §3.6).
 */
export type RedisEpoch = Readonly<{
  readEpoch(): Promise<EpochReading>
  /** False when Redis didn't say that it has it. */
  writeEpochKey(value: string): Promise<boolean>
  /**
   * Clears what a rewound Redis or a stranger's hand may have left: a paused queue, a rate limit, a global
   * concurrency (PROTOCOL §6). Call it at start and at each new epoch. False when Redis didn't do all of it.
   */
  resetQueueFlags(): Promise<boolean>
  stop(): Promise<void>
}>

export type EpochReading = { kind: 'read'; runId: string; key: string | null } | { kind: 'unreachable' }

const epochKey = `${queuePrefix}:epoch`
/** Nobody listens to BullMQ's event streams. It can't be told not to write them, only to keep them empty. */
const eventsKept = 0

export function openEpoch(params: { url: string; log: QueueLog }): RedisEpoch {
  const redis = openRedis({ url: params.url, log: params.log, role: 'epoch', kind: 'fail-fast' })
  const queues = queueNames.map((name) => openQueue(redis, name))

  async function written(action: () => Promise<unknown>): Promise<boolean> {
    try {
      await action()
      return true
    } catch (error) {
      if (redis.up()) params.log.warn({ event: 'redis.write_failed', error })
      return false
    }
  }

  return {
    async readEpoch() {
      try {
        const [info, key] = await Promise.all([redis.client.info('server'), redis.client.get(epochKey)])
        const runId = /^run_id:(\S+)/m.exec(info)?.[1]
        return runId === undefined ? { kind: 'unreachable' } : { kind: 'read', runId, key }
      } catch {
        return { kind: 'unreachable' }
      }
    },
    writeEpochKey: (value) => written(() => redis.client.set(epochKey, value)),
    resetQueueFlags: () =>
      written(async () => {
        for (const queue of queues) {
          await queue.removeGlobalConcurrency()
          await queue.removeGlobalRateLimit()
          await queue.removeRateLimitKey()
          await queue.getBackend().setQueueMeta({ 'opts.maxLenEvents': eventsKept })
          await queue.resume()
        }
      }),
    stop() {
      redis.close()
      return Promise.resolve()
    },
  }
}
