/** What the system holds while it is hurt (I10), looked at every few seconds. */
import { readFile } from 'node:fs/promises'
import type { Sample } from './evidence.ts'
import { withRedis } from './faults.ts'
import type { System } from './system.ts'

const everyMs = 3_000

/** Looks until the signal comes. What can't be seen at a moment (its server is down) is null there. */
export async function watch(system: System, signal: AbortSignal): Promise<Sample[]> {
  const samples: Sample[] = []
  while (!signal.aborted) {
    samples.push(await look(system))
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, everyMs)
      signal.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true })
    })
  }
  return samples
}

async function look({ services, redis, store }: System): Promise<Sample> {
  const sample: Sample = { rssMb: {}, redisKeys: null, redisMb: null, admitted: null }
  for (const { name, pid } of services.values()) {
    const mb = await rssMb(pid())
    if (mb !== undefined) sample.rssMb[name] = mb
  }
  await withRedis(redis.url, async (client) => {
    const memory = /^used_memory:(\d+)/m.exec(await client.info('memory'))?.[1]
    sample.redisMb = memory === undefined ? null : Number(memory) / 1024 ** 2
    sample.redisKeys = await client.dbsize()
  }).catch(() => {})
  const admitted = store.guarded.query<{ count: number }>(
    'SELECT count(*)::int AS count FROM deliveries WHERE admitted',
  )
  sample.admitted = await admitted.then(
    ({ rows }) => rows[0]?.count ?? null,
    () => null,
  )
  return sample
}

/** Linux tells it in /proc; elsewhere memory is not looked at. */
async function rssMb(pid: number | undefined): Promise<number | undefined> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
  const kb = /^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]
  return kb === undefined ? undefined : Number(kb) / 1024
}
