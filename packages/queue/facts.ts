import { once } from 'node:events'

import { openRedis, type QueueLog } from './connection.ts'

/** What the settings of a Redis are, for `doctor` and the checks at start. */
export type RedisFacts = Readonly<{
  /** `redis 7.0.15`, `valkey 8.1.0`. */
  server: string
  version: string
  /** `unknown` when the server hides it (managed services refuse CONFIG). */
  maxmemoryPolicy: string
  /** Bytes; 0 is no limit. */
  maxmemoryBytes: number
  appendonly: boolean
  appendfsync: string
}>

export type RedisCheck = { kind: 'reachable'; facts: RedisFacts; faults: readonly RedisFault[] } | { kind: 'unreachable'; reason: string }

export type RedisFault = Readonly<{ code: 'redis_evicts_keys' | 'redis_too_old'; text: string }>

const checkTimeoutMs = 3_000
/** The oldest that BullMQ recommends; below 5 it refuses. */
const versionMin = [6, 2] as const

/** Reads the settings over a connection of its own. Faults are what a start must refuse unless told otherwise (DESIGN §3). */
export async function checkRedis(params: { url: string; log: QueueLog }): Promise<RedisCheck> {
  const redis = openRedis({ url: params.url, log: params.log, role: 'check', kind: 'fail-fast' })
  const { client } = redis
  try {
    if (!redis.up()) await once(client, 'ready', { signal: AbortSignal.timeout(checkTimeoutMs) })
    const info = await client.info()
    const field = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1]
    const valkey = field('valkey_version')
    const version = valkey ?? field('redis_version') ?? 'unknown'
    const facts: RedisFacts = {
      server: `${valkey === undefined ? 'redis' : 'valkey'} ${version}`,
      version,
      maxmemoryPolicy: field('maxmemory_policy') ?? 'unknown',
      maxmemoryBytes: Number(field('maxmemory') ?? 0),
      appendonly: field('aof_enabled') === '1',
      appendfsync: await appendfsync(client),
    }
    return { kind: 'reachable', facts, faults: faultsOf(facts) }
  } catch (error) {
    return { kind: 'unreachable', reason: error instanceof Error ? error.message : String(error) }
  } finally {
    redis.close()
  }
}

async function appendfsync(client: { config(action: 'GET', name: string): Promise<unknown> }): Promise<string> {
  try {
    const reply = await client.config('GET', 'appendfsync')
    return Array.isArray(reply) && typeof reply[1] === 'string' ? reply[1] : 'unknown'
  } catch {
    return 'unknown'
  }
}

function faultsOf(facts: RedisFacts): RedisFault[] {
  const faults: RedisFault[] = []
  if (facts.maxmemoryPolicy !== 'noeviction' && facts.maxmemoryPolicy !== 'unknown') {
    faults.push({
      code: 'redis_evicts_keys',
      text: `maxmemory-policy is ${facts.maxmemoryPolicy}: Redis may throw queue keys away. Set it to noeviction.`,
    })
  }
  const [major = 0, minor = 0] = facts.version.split('.').map(Number)
  if (major < versionMin[0] || (major === versionMin[0] && minor < versionMin[1])) {
    faults.push({ code: 'redis_too_old', text: `${facts.server} is older than ${versionMin.join('.')}.` })
  }
  return faults
}
