import { newId } from '@tenterhook/schemas/ids'
import { Queue } from 'bullmq'
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { openQueuesForBoard } from './board.ts'
import { createConsumer } from './consumer.ts'
import { openEpoch, type RedisEpoch } from './epoch.ts'
import { createProducer } from './producer.ts'
import { startRedisServer, type RedisServer } from './redis-server.fixture.ts'

let server: RedisServer
let epoch: RedisEpoch
const log = { info: () => {}, warn: () => {} }

beforeEach(async () => {
  server = await startRedisServer()
  epoch = openEpoch({ url: server.url, log })
  await vi.waitUntil(async () => (await epoch.readEpoch()).kind === 'read')
})
afterEach(async () => {
  await epoch.stop()
  await server[Symbol.asyncDispose]()
})

describe('the epoch of a Redis', () => {
  it('is its run id and the key that was written', async () => {
    const before = await epoch.readEpoch()
    expect(before).toEqual({ kind: 'read', runId: expect.stringMatching(/^[0-9a-f]{40}$/), key: null })
    expect(await epoch.writeEpochKey('7')).toBe(true)
    expect(await epoch.readEpoch()).toEqual({ ...before, key: '7' })
  })

  it('loses the key with a wipe, under the same run id', async () => {
    await epoch.writeEpochKey('7')
    const before = await epoch.readEpoch()
    await server.ask.flushall()
    expect(await epoch.readEpoch()).toEqual({ ...before, key: null })
  })

  it('has another run id after a restart', async () => {
    const before = await epoch.readEpoch()
    await server.kill()
    expect(await epoch.readEpoch()).toEqual({ kind: 'unreachable' })
    expect(await epoch.writeEpochKey('8')).toBe(false)
    await server.start()
    const after = await vi.waitFor(async () => {
      const reading = await epoch.readEpoch()
      expect(reading.kind).toBe('read')
      return reading
    })
    expect(after).not.toEqual(before)
  })

  it('is unreachable within two seconds when Redis hangs', async () => {
    server.freeze()
    const from = performance.now()
    expect(await epoch.readEpoch()).toEqual({ kind: 'unreachable' })
    expect(performance.now() - from).toBeLessThan(2_000)
  })
})

describe('the flags of the queues', () => {
  it('are cleared, so that a paused, limited queue runs again', async () => {
    const stranger = new Queue('deliver', { connection: { url: server.url }, prefix: '{tenterhook}' })
    onTestFinished(() => stranger.close())
    await stranger.pause()
    await stranger.setGlobalConcurrency(1)
    await stranger.setGlobalRateLimit(1, 3_600_000)
    await stranger.rateLimit(3_600_000)
    const got: string[] = []
    const producer = createProducer({ url: server.url, log })
    const handle = async ({ id }: { id: string }) => void got.push(id)
    const consumer = createConsumer({ url: server.url, queue: 'deliver', concurrency: 4, handle, log })
    onTestFinished(async () => {
      await consumer.stop(AbortSignal.timeout(0))
      await producer.stop(AbortSignal.timeout(0))
    })
    await consumer.start()
    await vi.waitUntil(() => producer.healthy() && consumer.running())
    await producer.addDeliveries(
      Array.from({ length: 5 }, (_, i) => ({
        id: newId('dlv', i),
        generation: 1,
        destinationId: newId('dst', i),
        lane: 'normal',
      })),
    )
    await new Promise((resolve) => setTimeout(resolve, 200))
    expect(got).toEqual([])
    expect(await epoch.resetQueueFlags()).toBe(true)
    await vi.waitUntil(() => got.length === 5, { timeout: 8_000 })
    expect(await server.ask.hgetall('{tenterhook}:deliver:meta')).toMatchObject({ 'opts.maxLenEvents': '0' })
    expect(await server.ask.hkeys('{tenterhook}:deliver:meta')).not.toEqual(
      expect.arrayContaining([expect.stringMatching(/^(paused|concurrency|max|duration)$/)]),
    )
  })

  it('are reported as not cleared when Redis is away', async () => {
    await server.kill()
    expect(await epoch.resetQueueFlags()).toBe(false)
  })
})

describe('the queues for the board', () => {
  it('show what waits and write nothing', async () => {
    const board = openQueuesForBoard({ url: server.url, log })
    onTestFinished(() => board.close())
    await vi.waitFor(() => board.queues[0]?.getJobCounts())
    expect(await server.ask.keys('*')).toEqual([])
    expect(board.queues.map(({ name }) => name)).toEqual(['route', 'deliver', 'deliver-retry', 'deliver-quarantine'])
    await server.ask.lpush('{tenterhook}:deliver:wait', 'd-x')
    expect(await board.queues[1]?.getWaitingCount()).toBe(1)
  })

  it('fail at once while Redis is away', async () => {
    const board = openQueuesForBoard({ url: server.url, log })
    onTestFinished(() => board.close())
    await vi.waitFor(() => board.queues[0]?.getJobCounts())
    await server.kill()
    await vi.waitUntil(() => server.ask.status !== 'ready')
    const from = performance.now()
    await expect(board.queues[0]?.getJobCounts()).rejects.toThrow()
    expect(performance.now() - from).toBeLessThan(1_500)
  })
})
