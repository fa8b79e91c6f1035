import { checkRedis as askRedis, type RedisFacts } from '@tenterhook/queue/facts'
import { fail, ok, warn, type Check } from './doctor-check.ts'

/** Redis as the queues need it. Nothing is lost with it: it holds hints, and Postgres the truth. */
export async function checkRedis(url: string): Promise<Check[]> {
  const { host } = new URL(url)
  const answer = await askRedis({ url, log: { info: () => {}, warn: () => {} } })
  if (answer.kind === 'unreachable') {
    const says = `Redis at ${host} can't be reached (${answer.reason}); events are accepted and delivered all the same, by sweeps of Postgres, with seconds of delay`
    return [fail('redis', says, 'start it, or mend REDIS_URL')]
  }
  const { facts, faults } = answer
  const name = facts.product === 'valkey' ? 'Valkey' : 'Redis'
  if (faults.length === 0)
    return [
      ok('redis', `${name} ${facts.version} at ${host}, maxmemory-policy ${facts.maxmemoryPolicy}`),
      checkFile(facts),
    ]
  return [
    ...faults.map(({ code, text }) =>
      fail(
        'redis',
        text,
        code === 'redis_evicts_keys' ? 'CONFIG SET maxmemory-policy noeviction' : `use a newer ${name}`,
      ),
    ),
    checkFile(facts),
  ]
}

export function checkFile({ appendonly, appendfsync }: Pick<RedisFacts, 'appendonly' | 'appendfsync'>): Check {
  if (appendonly)
    return ok('redis file', `append-only file, appendfsync ${appendfsync}: a restart finds the queues again`)
  return warn(
    'redis file',
    'no append-only file: a restart finds the queues empty, and they are filled again from Postgres; nothing is lost',
    'set appendonly yes, so that a restart costs no time',
  )
}
