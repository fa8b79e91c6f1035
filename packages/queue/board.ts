import type { Queue } from 'bullmq'

import { openQueue, openRedis, type QueueLog } from './connection.ts'
import { queueNames } from './names.ts'

/** The queues as Bull Board wants them. With Redis away, reads fail at once instead of hanging the page. */
export type BoardQueues = Readonly<{ queues: readonly Queue[]; close(): Promise<void> }>

/** For reading: nothing here writes to Redis, not even BullMQ's own note about its version. */
export function openQueuesForBoard(params: { url: string; log: QueueLog }): BoardQueues {
  const redis = openRedis({ url: params.url, log: params.log, role: 'board', kind: 'fail-fast' })
  const queues = queueNames.map((name) => openQueue(redis, name))
  return {
    queues,
    close() {
      redis.close()
      return Promise.resolve()
    },
  }
}
