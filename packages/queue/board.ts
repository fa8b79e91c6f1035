import type { Queue } from 'bullmq'
import { openQueue, openRedis, type QueueLog } from './connection.ts'
import { queueNames } from './names.ts'

/** The queues as Bull Board wants them. While Redis is away, reads fail at once instead of hanging the page. */
export type BoardQueues = Readonly<{ queues: Queue[]; close(): Promise<void> }>

/** For reading: opening them writes nothing to Redis, not even BullMQ's note about its version. */
export function openQueuesForBoard(params: { url: string; log: QueueLog }): BoardQueues {
  const redis = openRedis({ url: params.url, log: params.log, role: 'board', kind: 'fail-fast' })
  return {
    queues: queueNames.map((name) => openQueue(redis, name)),
    close() {
      redis.close()
      return Promise.resolve()
    },
  }
}
