import { openQueue, openRedis, type QueueLog } from './connection.ts'
import { queueNames, queuePrefix } from './names.ts'

/**
 * What tells one life of Redis from the next: a wipe loses the key, a restart changes the run id, and
 * a rewind to an old dump brings an old key back. Comparing with Postgres, where the current epoch
 * stands, is the caller's (DESIGN §3.6).
 */
export type EpochReading = { kind: 'read'; runId: string; key: string | null } | { kind: 'unreachable' }

export type RedisEpoch = Readonly<{
  readEpoch(): Promise<EpochReading>
  /** False when Redis could not be written. */
  writeEpochKey(value: string): Promise<boolean>
  /**
   * Clears what a rewound Redis or a visitor of Bull Board may have left: a paused queue, a rate limit, a
   * global concurrency (PROTOCOL §6). Call at start and at each epoch change. False when Redis is away.
   */
  resetQueueFlags(): Promise<boolean>
  stop(): Promise<void>
}>

const epochKey = `${queuePrefix}:epoch`
/** Nobody listens to BullMQ's event streams. Trimming in whole nodes keeps them at a few hundred entries. */
const eventsMax = 100

export function openEpoch(params: { url: string; log: QueueLog }): RedisEpoch {
  const redis = openRedis({ url: params.url, log: params.log, role: 'epoch', kind: 'fail-fast' })
  const queues = queueNames.map((name) => openQueue(redis, name))

  async function attempt(action: () => Promise<unknown>): Promise<boolean> {
    try {
      await action()
      return true
    } catch (error) {
      params.log.warn({ reason: error instanceof Error ? error.message : String(error) }, 'redis could not be written')
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
    writeEpochKey: (value) => attempt(() => redis.client.set(epochKey, value)),
    resetQueueFlags: () =>
      attempt(async () => {
        for (const queue of queues) {
          await queue.removeGlobalConcurrency()
          await queue.removeGlobalRateLimit()
          await queue.removeRateLimitKey()
          await queue.getBackend().setQueueMeta({ 'opts.maxLenEvents': eventsMax })
          await queue.resume()
        }
      }),
    stop() {
      redis.close()
      return Promise.resolve()
    },
  }
}
