import { setTimeout as wait } from 'node:timers/promises'
import { ReplyError, type Redis } from 'ioredis'
import { openRedis, type QueueLog } from './connection.ts'

/** How a Redis is set, for `doctor` and the checks at start. `unknown` where a managed service hides it. */
export type RedisFacts = Readonly<{
  product: 'redis' | 'valkey'
  version: string
  maxmemoryPolicy: string
  /** 0 is no limit. */
  maxmemoryBytes: number
  appendonly: boolean
  appendfsync: string
}>

/** What a start must refuse unless told otherwise: it would lie about what was promised (DESIGN §3). */
export type RedisFault = Readonly<{ code: 'redis_evicts_keys' | 'redis_too_old'; text: string }>

export type RedisCheck =
  | { kind: 'reachable'; facts: RedisFacts; faults: readonly RedisFault[] }
  | { kind: 'unreachable'; reason: string }

const checkTimeoutMs = 3_000
/** What BullMQ 6 recommends as the oldest; the scripts run on 5, slower. */
const versionMin = { major: 6, minor: 2 }

/**
 * Reads the settings over a connection of its own, which it closes. Waits `checkTimeoutMs` for a Redis that
 * is just starting, but not for one that answered no (a wrong password).
 */
export async function checkRedis(params: { url: string; log: QueueLog }): Promise<RedisCheck> {
  const redis = openRedis({ url: params.url, log: params.log, role: 'check', kind: 'fail-fast' })
  const { client } = redis
  const late = new AbortController()
  let reason = `no answer within ${checkTimeoutMs} ms`
  const reached = new Promise<boolean>((resolve) => {
    client.once('ready', () => resolve(true))
    client.on('error', (error: Error) => {
      reason = error.message
      if (error instanceof ReplyError) resolve(false)
    })
  })
  try {
    if (!(await Promise.race([reached, wait(checkTimeoutMs, false, late)]))) return { kind: 'unreachable', reason }
    const facts = await readFacts(client)
    return { kind: 'reachable', facts, faults: faultsOf(facts) }
  } catch (error) {
    return { kind: 'unreachable', reason: error instanceof Error ? error.message : String(error) }
  } finally {
    late.abort()
    redis.close()
  }
}

async function readFacts(client: Redis): Promise<RedisFacts> {
  const info = await client.info()
  const field = (name: string) => infoField(info, name)
  const valkey = field('valkey_version')
  return {
    product: valkey === undefined ? 'redis' : 'valkey',
    version: valkey ?? field('redis_version') ?? 'unknown',
    maxmemoryPolicy: field('maxmemory_policy') ?? 'unknown',
    maxmemoryBytes: Number(field('maxmemory') ?? 0),
    appendonly: field('aof_enabled') === '1',
    appendfsync: await readSetting(client, 'appendfsync'),
  }
}

/** A field of what INFO says. */
export function infoField(info: string, name: string): string | undefined {
  return new RegExp(`^${name}:(.*?)\r?$`, 'm').exec(info)?.[1]
}

/** INFO doesn't tell this one, and managed services refuse CONFIG: then it is `unknown`, and no fault. */
async function readSetting(client: Redis, name: string): Promise<string> {
  try {
    const reply: unknown = await client.config('GET', name)
    return Array.isArray(reply) && typeof reply[1] === 'string' ? reply[1] : 'unknown'
  } catch {
    return 'unknown'
  }
}

function faultsOf(facts: RedisFacts): RedisFault[] {
  const faults: RedisFault[] = []
  const { maxmemoryPolicy, product, version } = facts
  if (maxmemoryPolicy !== 'noeviction' && maxmemoryPolicy !== 'unknown') {
    faults.push({
      code: 'redis_evicts_keys',
      text: `maxmemory-policy is ${maxmemoryPolicy}, so Redis may throw away keys of the queues; it must be noeviction`,
    })
  }
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (major < versionMin.major || (major === versionMin.major && minor < versionMin.minor)) {
    faults.push({
      code: 'redis_too_old',
      text: `${product} ${version} is older than ${versionMin.major}.${versionMin.minor}`,
    })
  }
  return faults
}
