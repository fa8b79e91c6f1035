import { queuePrefix } from '@tenterhook/queue/names'
import { Redis } from 'ioredis'
import { until } from '../../support/poll.ts'
import type { Stack } from '../../support/stack.ts'

/** Until deliver jobs were added, and none of them waits or is with a worker any more. */
export async function untilJobsTaken(stack: Stack): Promise<void> {
  const client = new Redis(stack.redis.url)
  const key = (name: string) => `${queuePrefix}:deliver:${name}`
  try {
    await until(
      async () => {
        const [added, waiting, active] = await Promise.all([
          client.exists(key('id')),
          client.llen(key('wait')),
          client.llen(key('active')),
        ])
        return added === 1 && waiting + active === 0
      },
      { what: 'the jobs to be taken', timeoutMs: 20_000 },
    )
  } finally {
    client.disconnect()
  }
}

/** As a Redis is after its data was lost, but for its epoch key: nobody notices it. */
export async function clearJobs(stack: Stack): Promise<void> {
  const client = new Redis(stack.redis.url)
  const jobs = (await client.keys(`${queuePrefix}:*`)).filter((key) => key !== `${queuePrefix}:epoch`)
  if (jobs.length > 0) await client.del(...jobs)
  client.disconnect()
}
