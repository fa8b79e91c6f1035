import { describe, expect, it, onTestFinished } from 'vitest'
import { checkRedis } from './facts.ts'
import { startRedisServer } from './redis-server.fixture.ts'

const log = { info: () => {}, warn: () => {} }

async function check(...args: string[]) {
  const server = await startRedisServer(...args)
  onTestFinished(() => server[Symbol.asyncDispose]())
  return { server, result: await checkRedis({ url: server.url, log }) }
}

describe('checking a Redis', () => {
  it('finds no fault with one that keeps its keys, and tells how it is set', async () => {
    const { result } = await check('--appendonly', 'yes', '--appendfsync', 'everysec', '--maxmemory', '100mb')
    expect(result).toEqual({
      kind: 'reachable',
      facts: {
        product: expect.stringMatching(/^(redis|valkey)$/),
        version: expect.stringMatching(/^\d+\.\d+\.\d+$/),
        maxmemoryPolicy: 'noeviction',
        maxmemoryBytes: 100 * 1024 * 1024,
        appendonly: true,
        appendfsync: 'everysec',
      },
      faults: [],
    })
  })

  it.each(['allkeys-lru', 'volatile-ttl'])('finds fault with one that evicts keys (%s)', async (policy) => {
    const { result } = await check('--maxmemory-policy', policy)
    expect(result).toMatchObject({
      kind: 'reachable',
      facts: { maxmemoryPolicy: policy },
      faults: [{ code: 'redis_evicts_keys' }],
    })
  })

  it('does without CONFIG where that is refused', async () => {
    const { result } = await check('--rename-command', 'CONFIG', '')
    expect(result).toMatchObject({ kind: 'reachable', facts: { appendfsync: 'unknown' }, faults: [] })
  })

  it('says why one can not be reached, within five seconds', async () => {
    const { server } = await check()
    await server.kill()
    const from = performance.now()
    const refused = await checkRedis({ url: server.url, log })
    expect(refused).toEqual({ kind: 'unreachable', reason: expect.stringContaining('ECONNREFUSED') })
    expect(performance.now() - from).toBeLessThan(5_000)
  })

  it('says so at once when the password is wrong, without quoting it', async () => {
    const { server } = await check()
    await server.ask.config('SET', 'requirepass', 'right')
    const from = performance.now()
    const result = await checkRedis({ url: server.url.replace('//', '//:hunter2@'), log })
    expect(result).toEqual({ kind: 'unreachable', reason: expect.stringContaining('WRONGPASS') })
    expect(performance.now() - from).toBeLessThan(1_000)
    expect(JSON.stringify(result)).not.toContain('hunter2')
  })
})
