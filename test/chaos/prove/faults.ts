/** How each fault is done to the system, and undone. */
import { setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'
import type { FaultProxy } from '../../support/proxy.ts'
import type { StoppableRedis } from '../../support/stoppable-servers.ts'
import type { FaultKind, Planned, ServiceCopy } from './plan.ts'
import type { Supervised, System } from './system.ts'

/** Hurts, waits out the fault's duration, heals. A string says why it could not be done here. */
export type Inflict = (system: System, fault: Planned) => Promise<string | void>

const latencyMs = { min: 20, max: 400 }
const clockStepSeconds = 3_600
/** Far below the attempts' timeout: jobs pile up in Redis and nothing runs out. */
const pileUpMs = 800
/** Of the statements that commit, as their Bind says them, by the service that sends them. */
const committing: Record<string, readonly string[]> = {
  ingest: ['accept\0'],
  router: ['route\0'],
  dispatcher: ['lease\0', 'results\0'],
}
const cutWaitMs = 3_000

export const inflict: Record<FaultKind, Inflict> = {
  async kill(system, fault) {
    serviceOf(system, fault).kill()
  },
  async stop(system, fault) {
    const service = serviceOf(system, fault)
    service.pause()
    await delay(fault.durationMs)
    service.resume()
  },
  async clock(system, fault) {
    if (system.faketime === undefined) return 'this machine has no libfaketime (Debian: apt-get install faketime)'
    const service = serviceOf(system, fault)
    service.setClock(fault.lot < 0.5 ? -clockStepSeconds : clockStepSeconds)
    service.kill()
    await delay(fault.durationMs)
    service.setClock(undefined)
    service.kill()
  },

  async 'backend-kill'({ postgres }, { lot }) {
    if (!(await postgres.killBackend(lot))) postgres.stopAtOnce() // it was on its way up or down: this is as good
  },
  'backend-terminate': ({ postgres }) => postgres.terminateBackends(),
  async 'postgres-stop'({ postgres }) {
    postgres.stopAtOnce()
  },
  async 'disk-full'({ postgres }, { durationMs }) {
    if (postgres.disk === undefined) return postgres.diskNote
    await postgres.disk.fill()
    try {
      await delay(durationMs)
    } finally {
      await postgres.disk.free()
    }
  },

  async 'redis-kill'({ redis }) {
    await redis.kill()
    await redis.start({ data: 'kept' })
  },
  async 'redis-hang'({ redis }, { durationMs }) {
    redis.hang()
    await delay(durationMs)
    redis.goOn()
  },
  'redis-full': ({ redis }, { durationMs }) =>
    withRedis(redis.url, async (client) => {
      await client.config('SET', 'maxmemory', '1mb')
      await delay(durationMs)
      await client.config('SET', 'maxmemory', '0')
    }),
  'redis-flush': ({ redis }) => withRedis(redis.url, async (client) => void (await client.flushall())),
  async 'redis-lost'({ redis }, { durationMs }) {
    await redis.kill()
    await delay(durationMs)
    await redis.start({ data: 'lost' })
  },
  async 'redis-rewind'({ redis, services }, { durationMs }) {
    const dispatchers = [...services.values()].filter(({ name }) => name.startsWith('dispatcher'))
    for (const service of dispatchers) service.pause()
    await delay(pileUpMs)
    const dump = await redis.copyData()
    for (const service of dispatchers) service.resume()
    await delay(durationMs)
    await redis.kill()
    await redis.start({ data: dump })
  },

  async latency(system, fault) {
    const line = lineOf(system, fault)
    line.latency(latencyMs.min + fault.lot * (latencyMs.max - latencyMs.min))
    await delay(fault.durationMs)
    await line.heal()
  },
  async blackhole(system, fault) {
    const line = lineOf(system, fault)
    line.blackhole()
    await delay(fault.durationMs)
    await line.heal()
  },
  async reset(system, fault) {
    lineOf(system, fault).reset()
  },
  async 'half-open'(system, fault) {
    lineOf(system, fault).halfOpen()
  },
  async 'cut-commit'(system, fault) {
    const patterns = committing[serviceOf(system, fault).name.replace('2', '')] ?? []
    const cut = lineOf(system, fault).cutAfter(patterns[Math.floor(fault.lot * patterns.length)] ?? 'accept\0', {
      times: 3,
    })
    await delay(cutWaitMs)
    cut.disarm()
  },
}

function serviceOf({ services }: System, { target }: Planned): Supervised {
  const name = target.split(' ')[0] as ServiceCopy
  const service = services.get(name)
  if (service === undefined) throw new Error(`there is no ${name}`)
  return service
}

function lineOf(system: System, fault: Planned): FaultProxy {
  const { lines } = serviceOf(system, fault)
  return fault.target.endsWith('redis') ? lines.redis : lines.postgres
}

/** Whatever a fault that broke off has left: it runs, and takes what it is given. */
export async function reviveRedis(redis: StoppableRedis): Promise<void> {
  const takesAll = () => withRedis(redis.url, async (client) => void (await client.config('SET', 'maxmemory', '0')))
  try {
    redis.goOn()
    await takesAll()
  } catch {
    await redis.start({ data: 'kept' })
    await takesAll()
  }
}

export async function withRedis(url: string, work: (client: Redis) => Promise<void>): Promise<void> {
  const client = new Redis(url, {
    lazyConnect: true,
    maxRetriesPerRequest: 0,
    commandTimeout: 5_000,
    retryStrategy: () => null,
  })
  client.on('error', () => {}) // every command's own failure tells it
  try {
    await client.connect()
    await work(client)
  } finally {
    client.disconnect()
  }
}
