import { Redis } from 'ioredis'

export type RedisMemory = {
  /** The most that was seen since the start. */
  peakBytes(): number
  stop(): Promise<void>
}

const lookEveryMs = 250

/** Looks at Redis's `used_memory` (INFO) from now on; rejects when Redis doesn't tell it. */
export async function watchRedisMemory(url: string): Promise<RedisMemory> {
  const redis = new Redis(url)
  let peak = 0
  const look = async () => {
    const used = Number(/^used_memory:(\d+)/m.exec(await redis.info('memory'))?.[1])
    if (!(used > 0)) throw new Error('Redis does not tell its used_memory')
    peak = Math.max(peak, used)
  }
  await look()
  let failure: unknown
  const timer = setInterval(() => {
    look().catch((error: unknown) => (failure ??= error))
  }, lookEveryMs)
  return {
    peakBytes: () => peak,
    async stop() {
      clearInterval(timer)
      await redis.quit()
      if (failure !== undefined) throw failure
    },
  }
}
