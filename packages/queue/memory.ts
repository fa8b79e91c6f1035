import { ReplyError } from 'ioredis'
import type { QueueLog, RedisLink } from './connection.ts'
import { infoField } from './facts.ts'

/**
 * Whether Redis has memory for more. A Redis at its limit refuses every write, so it takes no job and gives none out; well
 * before that nothing more is put into it, and the sweeps carry what is due, as they do without Redis. What is in it
 * is worked off meanwhile.
 *
 * M1. Closed from `closeAt` of the limit on, open again below `openBelow`: between them it stays what it was, or a Redis
 *     at the edge would open and close with every job.
 * M2. Closed while it isn't known: nothing is lost by that but the queue's speed.
 */
export type MemoryWatch = Readonly<{
  hasRoom(): boolean
  stop(): void
}>

/** Shares of maxmemory. */
const closeAt = 0.7
const openBelow = 0.6
const readEveryMs = 1_000

export function watchMemory({ link, log }: { link: RedisLink; log: QueueLog }): MemoryWatch {
  let room: 'unknown' | 'open' | 'closed' = 'unknown'
  let reading = false

  async function read(): Promise<void> {
    if (reading || !link.up()) return
    reading = true
    try {
      const before = room
      const memory = memoryOf(await link.client.info('memory'))
      room = roomOf(memory, before)
      if (room === 'closed' && before !== 'closed') log.warn({ event: 'redis.nearly_full', ...memory })
      if (room === 'open' && before === 'closed') log.info({ event: 'redis.has_room', ...memory })
    } catch (error) {
      // Who may not ask is told nothing; a limit that is there shows when it is reached, as a refusal.
      room = isRefused(error) ? 'open' : 'unknown'
    } finally {
      reading = false
    }
  }

  link.client.on('ready', () => void read())
  const timer = setInterval(() => void read(), readEveryMs)
  timer.unref()

  return {
    hasRoom: () => room === 'open',
    stop: () => clearInterval(timer),
  }
}

/** `limitBytes` 0 is no limit. */
type Memory = { usedBytes: number; limitBytes: number }

function memoryOf(info: string): Memory {
  const bytes = (name: string) => Number(infoField(info, name) ?? 0)
  // As Redis itself compares: buffers of replicas and of the append-only file don't count.
  const usedBytes = bytes('used_memory') - bytes('mem_not_counted_for_evict')
  return { usedBytes, limitBytes: bytes('maxmemory') }
}

function roomOf({ usedBytes, limitBytes }: Memory, before: 'unknown' | 'open' | 'closed'): 'open' | 'closed' {
  if (limitBytes === 0) return 'open'
  return usedBytes >= limitBytes * (before === 'closed' ? openBelow : closeAt) ? 'closed' : 'open'
}

/** By an access list, or by a server that renamed the command. */
function isRefused(error: unknown): boolean {
  return error instanceof Error && error instanceof ReplyError && /^(NOPERM|ERR unknown command)/.test(error.message)
}
