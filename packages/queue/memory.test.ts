import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { openRedis } from './connection.ts'
import { watchMemory, type MemoryWatch } from './memory.ts'
import { startRedisServer, type RedisServer } from './redis-server.fixture.ts'

let server: RedisServer
let lines: string[]

beforeEach(async () => {
  lines = []
  server = await startRedisServer()
  // So much that what connections and buffers take is nothing beside it.
  await server.ask.setrange('ballast', 50 * 1_048_576, 'x')
})
afterEach(() => server[Symbol.asyncDispose]())

const write = (fields: { event: string }) => void lines.push(fields.event)
const log = { info: write, warn: write }
/** The watch looks once a second. */
const patience = { timeout: 5_000, interval: 10 }
const looks = () => new Promise((resolve) => setTimeout(resolve, 1_500))

function watch(url = server.url): MemoryWatch {
  const link = openRedis({ url, log, role: 'test', kind: 'fail-fast' })
  const memory = watchMemory({ link, log })
  onTestFinished(() => {
    memory.stop()
    link.close()
  })
  return memory
}

/** Makes what is used now this share of the limit. */
async function limitToShare(share: number): Promise<void> {
  const used = Number(/^used_memory:(\d+)/m.exec(await server.ask.info('memory'))?.[1])
  await server.ask.config('SET', 'maxmemory', Math.round(used / share))
}

describe('the memory of Redis', () => {
  it('without a limit has room', async () => {
    const memory = watch()
    await vi.waitUntil(() => memory.hasRoom(), patience)
    expect(lines).toEqual([])
  })

  it('closes at seven tenths, stays closed at between, opens below six, and says so once each', async () => {
    const memory = watch()
    await limitToShare(0.66)
    await vi.waitUntil(() => memory.hasRoom(), patience)
    await looks()
    expect(memory.hasRoom()).toBe(true)
    await limitToShare(0.75)
    await vi.waitUntil(() => !memory.hasRoom(), patience)
    await limitToShare(0.66)
    await looks()
    expect(memory.hasRoom()).toBe(false)
    await limitToShare(0.5)
    await vi.waitUntil(() => memory.hasRoom(), patience)
    await looks()
    expect(lines).toEqual(['redis.nearly_full', 'redis.has_room'])
  })

  it('of one that is full already is closed from the first look', async () => {
    await limitToShare(1)
    const memory = watch()
    await vi.waitUntil(() => lines.includes('redis.nearly_full'), patience)
    expect(memory.hasRoom()).toBe(false)
  })

  it('is closed before it is known, while the server hangs, and open again by itself', async () => {
    const memory = watch()
    expect(memory.hasRoom()).toBe(false)
    await vi.waitUntil(() => memory.hasRoom(), patience)
    server.freeze()
    await vi.waitUntil(() => !memory.hasRoom(), patience)
    server.thaw()
    await vi.waitUntil(() => memory.hasRoom(), patience)
  })

  it('has room when the access list forbids to ask', async () => {
    await server.ask.call('ACL', 'SETUSER', 'app', 'on', '>secret', '~*', '+@all', '-info')
    const memory = watch(server.url.replace('redis://', 'redis://app:secret@'))
    await vi.waitUntil(() => memory.hasRoom(), patience)
  })
})
