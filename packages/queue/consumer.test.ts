import { spawn } from 'node:child_process'
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { newId } from '@tenterhook/schemas/ids'
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { createConsumer, type Consumer, type ConsumerParams } from './consumer.ts'
import type { LaneHint } from './names.ts'
import { createProducer, type Producer } from './producer.ts'
import { startRedisServer, type RedisServer } from './redis-server.fixture.ts'

let server: RedisServer
let lines: string[]

beforeEach(async () => {
  lines = []
  server = await startRedisServer()
})
afterEach(() => server[Symbol.asyncDispose]())

const write = (fields: { event: string }) => void lines.push(fields.event)
const log = { info: write, warn: write }
const key = (name: string) => `{tenterhook}:deliver:${name}`
const delivery = () => ({
  id: newId('dlv', Date.now()),
  generation: 1,
  destinationId: newId('dst', 1),
  lane: 'normal' as const,
})
/** In jobs of one, as they come when little happens. */
async function addOneByOne(producer: Producer, added: readonly LaneHint[]): Promise<void> {
  for (const one of added) await producer.addDeliveries([one])
}
const deliveries = (n: number) => Array.from({ length: n }, () => delivery())

async function openProducer(): Promise<Producer> {
  const producer = createProducer({ url: server.url, log: { info: () => {}, warn: () => {} } })
  onTestFinished(() => producer.stop(AbortSignal.timeout(0)))
  await vi.waitUntil(() => producer.healthy())
  return producer
}

async function openConsumer(params: Partial<ConsumerParams<'deliver'>>): Promise<Consumer> {
  const consumer = createConsumer({
    url: server.url,
    queue: 'deliver',
    concurrency: 8,
    handle: async () => {},
    log,
    ...params,
  })
  onTestFinished(() => consumer.stop(AbortSignal.timeout(0)))
  await consumer.start()
  return consumer
}

/** A consumer that notes what it gets. */
async function openNoting(
  params: Partial<ConsumerParams<'deliver'>> = {},
): Promise<{ got: string[]; consumer: Consumer }> {
  const got: string[] = []
  const consumer = await openConsumer({ handle: async ({ id }) => void got.push(id), ...params })
  return { got, consumer }
}

/** Handlers that end when told. */
function gate() {
  const started: string[] = []
  const signals: AbortSignal[] = []
  const opened = Promise.withResolvers<void>()
  const handle = async ({ id }: { id: string }, signal: AbortSignal) => {
    started.push(id)
    signals.push(signal)
    await opened.promise
  }
  return { started, signals, handle, open: opened.resolve }
}

const counts = async () => ({
  waiting: await server.ask.llen(key('wait')),
  active: await server.ask.llen(key('active')),
  failed: await server.ask.zcard(key('failed')),
  completed: await server.ask.zcard(key('completed')),
})
const empty = { waiting: 0, active: 0, failed: 0, completed: 0 }
const isEmpty = async () => Object.values(await counts()).every((n) => n === 0)

describe('taking', () => {
  it('hands over what was added and leaves nothing behind', async () => {
    const producer = await openProducer()
    const { got } = await openNoting()
    const added = deliveries(300)
    await producer.addDeliveries(added)
    await vi.waitUntil(() => got.length === 300)
    expect(got.toSorted()).toEqual(added.map(({ id }) => id).toSorted())
    await vi.waitUntil(isEmpty)
    expect(await server.ask.keys(key('d-*'))).toEqual([])
  })

  it('hands over route jobs with their events', async () => {
    const producer = await openProducer()
    const got: string[][] = []
    const consumer = createConsumer({
      url: server.url,
      queue: 'route',
      concurrency: 2,
      handle: async ({ eventIds }) => void got.push(eventIds),
      log,
    })
    onTestFinished(() => consumer.stop(AbortSignal.timeout(0)))
    await consumer.start()
    const ids = [newId('evt', 1), newId('evt', 2)]
    producer.addRoute(ids)
    await vi.waitUntil(() => got.length > 0)
    expect(got).toEqual([ids])
  })

  it.each([
    ['jobs of one', addOneByOne],
    ['jobs of many', (producer: Producer, added: LaneHint[]) => producer.addDeliveries(added)],
  ])('has as many handlers at work as its concurrency says, and no more (%s)', async (_, add) => {
    const producer = await openProducer()
    const { started, handle, open } = gate()
    const consumer = await openConsumer({ handle, concurrency: 5 })
    await add(producer, deliveries(40))
    await vi.waitUntil(() => started.length === 5)
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(started).toHaveLength(5)
    expect(consumer.active()).toBe(5)
    open()
    await vi.waitUntil(() => started.length === 40)
    await vi.waitUntil(isEmpty)
  })

  it('keeps a job until its last handler has ended, and lets others pass meanwhile', async () => {
    const producer = await openProducer()
    const slow = Promise.withResolvers<void>()
    const [first, ...rest] = deliveries(16)
    const got: string[] = []
    await openConsumer({
      concurrency: 2,
      handle: async ({ id }) => {
        if (id === first?.id) await slow.promise
        got.push(id)
      },
    })
    await producer.addDeliveries([...(first === undefined ? [] : [first]), ...rest])
    await producer.addDeliveries(deliveries(32))
    await vi.waitUntil(() => got.length === 47)
    await vi.waitUntil(async () => (await counts()).active === 1)
    slow.resolve()
    await vi.waitUntil(isEmpty)
    expect(got).toHaveLength(48)
  })

  it('removes the job of handlers that throw and never tries them again', async () => {
    const producer = await openProducer()
    const tried: string[] = []
    await openConsumer({
      handle: async ({ id }) => {
        tried.push(id)
        throw new Error('postgres is away')
      },
    })
    const added = deliveries(3)
    await producer.addDeliveries(added)
    await vi.waitUntil(() => tried.length === 3)
    await vi.waitUntil(isEmpty)
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(tried.toSorted()).toEqual(added.map(({ id }) => id).toSorted())
    expect(lines).toContain('queue.handler_failed')
  })

  it('stops taking when paused and goes on when resumed', async () => {
    const producer = await openProducer()
    const { got, consumer } = await openNoting()
    await vi.waitUntil(() => consumer.running())
    consumer.pauseIntake()
    expect(consumer.running()).toBe(false)
    await addOneByOne(producer, deliveries(6))
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(got).toEqual([])
    consumer.resumeIntake()
    await vi.waitUntil(() => got.length === 6)
  })

  it('survives a hundred pauses and resumes in one breath', async () => {
    const producer = await openProducer()
    const { got, consumer } = await openNoting()
    await vi.waitUntil(() => consumer.running())
    for (let i = 0; i < 100; i++) {
      consumer.pauseIntake()
      if (i % 3 === 0) await new Promise((resolve) => setImmediate(resolve))
      consumer.resumeIntake()
      if (i % 7 === 0) await producer.addDeliveries([delivery()])
    }
    await vi.waitUntil(() => got.length === 15, { timeout: 5_000 })
  })
})

describe('what can not be read', () => {
  it.each([
    ['data that is not JSON', { name: 'deliver', data: '{"id":', opts: '{}' }],
    ['data of another shape', { name: 'deliver', data: '{"eventIds":["evt_1"]}', opts: '{}' }],
    [
      'an id that is none',
      { name: 'deliver', data: JSON.stringify({ deliveries: [{ ...delivery(), id: 'dlv_1; DROP' }] }), opts: '{}' },
    ],
    [
      'a delivery of no destination',
      { name: 'deliver', data: JSON.stringify({ deliveries: [{ id: delivery().id, generation: 1 }] }), opts: '{}' },
    ],
    ['no deliveries', { name: 'deliver', data: '{"deliveries":[]}', opts: '{}' }],
    ['no data at all', { name: 'deliver' }],
    ['null', { name: 'deliver', data: 'null' }],
  ])('drops a job with %s and goes on', async (_, stored) => {
    const producer = await openProducer()
    await server.ask.hset(key('d-broken'), stored)
    await server.ask.lpush(key('wait'), 'd-broken')
    const { got } = await openNoting({ lockMs: 300 })
    await producer.addDeliveries([delivery()])
    await vi.waitUntil(() => got.length === 1)
    await vi.waitUntil(isEmpty)
    expect(lines).toContain('queue.job_unreadable')
    expect(await server.ask.keys(key('d-*'))).toEqual([])
  })

  it('drops a job whose record is gone and goes on', async () => {
    const producer = await openProducer()
    await server.ask.lpush(key('wait'), 'd-ghost')
    const { got } = await openNoting()
    await producer.addDeliveries([delivery()])
    await vi.waitUntil(() => got.length === 1)
    await vi.waitUntil(isEmpty)
  })

  it('drops a route job with more events than a routing transaction may hold', async () => {
    const eventIds = Array.from({ length: 201 }, (_, i) => newId('evt', i))
    await server.ask.hset('{tenterhook}:route:r-1x', { name: 'route', data: JSON.stringify({ eventIds }), opts: '{}' })
    await server.ask.lpush('{tenterhook}:route:wait', 'r-1x')
    const handle = vi.fn<ConsumerParams<'route'>['handle']>(async () => {})
    const consumer = createConsumer({ url: server.url, queue: 'route', concurrency: 1, handle, log })
    onTestFinished(() => consumer.stop(AbortSignal.timeout(0)))
    await consumer.start()
    await vi.waitUntil(() => lines.includes('queue.job_unreadable'))
    expect(handle).not.toHaveBeenCalled()
  })
})

describe('whatever becomes of Redis', () => {
  it('goes on with later jobs after a wipe under its hands', async () => {
    const producer = await openProducer()
    const { started, handle, open } = gate()
    const consumer = await openConsumer({ handle, concurrency: 2 })
    await addOneByOne(producer, deliveries(10))
    await vi.waitUntil(() => started.length === 2)
    await server.ask.flushall()
    await addOneByOne(producer, deliveries(3))
    open()
    await vi.waitUntil(() => started.length === 5)
    await vi.waitUntil(() => consumer.active() === 0)
    await vi.waitUntil(isEmpty)
  })

  it('goes on after a wipe while idle', async () => {
    const producer = await openProducer()
    const { got } = await openNoting()
    await producer.addDeliveries([delivery()])
    await vi.waitUntil(() => got.length === 1)
    await server.ask.flushall()
    await producer.addDeliveries([delivery()])
    await vi.waitUntil(() => got.length === 2)
  })

  it('starts without a Redis, takes when there is one, and goes on through restarts', async () => {
    await server.kill()
    const { got } = await openNoting()
    for (let round = 1; round <= 3; round++) {
      await server.start()
      const producer = await openProducer()
      await addOneByOne(producer, deliveries(4))
      await vi.waitUntil(() => got.length === round * 4, { timeout: 8_000 })
      await server.kill()
    }
    const said = lines.filter((line) => line.startsWith('redis.'))
    expect(said[0]).toBe('redis.down')
    expect(said.filter((line, i) => line === said[i - 1])).toEqual([])
  })

  it('hands over again what an old dump brings back, and new jobs too', async () => {
    const producer = await openProducer()
    const added = deliveries(20)
    await addOneByOne(producer, added)
    await server.ask.save()
    await copyFile(join(server.dir, 'dump.rdb'), join(server.dir, 'old.rdb'))
    const { got } = await openNoting()
    await vi.waitUntil(() => got.length === 20)
    await server.kill()
    await copyFile(join(server.dir, 'old.rdb'), join(server.dir, 'dump.rdb'))
    await server.start()
    await vi.waitUntil(() => got.length === 40, { timeout: 8_000 })
    expect(new Set(got).size).toBe(20)
    const again = await openProducer()
    await again.addDeliveries([delivery()])
    await vi.waitUntil(() => got.length === 41)
    await vi.waitUntil(isEmpty)
  })

  it('goes on when Redis hangs and comes back', async () => {
    const producer = await openProducer()
    const { got } = await openNoting()
    await producer.addDeliveries(deliveries(1))
    await vi.waitUntil(() => got.length === 1)
    server.freeze()
    await new Promise((resolve) => setTimeout(resolve, 1_500))
    server.thaw()
    await vi.waitUntil(() => producer.healthy(), { timeout: 4_000 })
    await producer.addDeliveries(deliveries(2))
    await vi.waitUntil(() => got.length === 3, { timeout: 8_000 })
  })

  it('asks a Redis that refuses to write a few times a second, not without pause', async () => {
    const producer = await openProducer()
    await addOneByOne(producer, deliveries(50))
    await server.ask.config('SET', 'maxmemory', '1')
    const { got } = await openNoting({ concurrency: 32 })
    await vi.waitUntil(() => lines.includes('queue.worker_failed'))
    const errorsBefore = await refusals()
    await new Promise((resolve) => setTimeout(resolve, 1_000))
    expect((await refusals()) - errorsBefore).toBeLessThan(12)
    await server.ask.config('SET', 'maxmemory', '0')
    await vi.waitUntil(() => got.length === 50, { timeout: 8_000 })
  })

  it('brings the job of a killed worker to another, however often, and never fails it', async () => {
    const producer = await openProducer()
    const one = delivery()
    await producer.addDeliveries([one])
    for (let kills = 0; kills < 4; kills++) await killAWorkerAtWork(one.id)
    const { got } = await openNoting({ lockMs: 300 })
    await vi.waitUntil(() => got.length === 1, { timeout: 5_000 })
    expect(got).toEqual([one.id])
    await vi.waitUntil(isEmpty)
  })

  it('keeps a job for its worker as long as that lives, however long it works', async () => {
    const producer = await openProducer()
    const { started, handle, open } = gate()
    await openConsumer({ handle, lockMs: 400 })
    const { got } = await openNoting({ lockMs: 400, concurrency: 1 })
    // What seems stalled would be taken by the one that is idle.
    await addOneByOne(producer, deliveries(8))
    await vi.waitUntil(() => started.length + got.length === 8)
    await new Promise((resolve) => setTimeout(resolve, 2_000))
    expect(started.length + got.length).toBe(8)
    expect((await counts()).active).toBe(started.length)
    open()
    await vi.waitUntil(isEmpty)
  })
})

describe('stopping', () => {
  it('takes no more, lets the handlers finish, and leaves the rest in the queue', async () => {
    const producer = await openProducer()
    const { started, signals, handle, open } = gate()
    const consumer = await openConsumer({ handle, concurrency: 4 })
    await addOneByOne(producer, deliveries(10))
    await vi.waitUntil(() => started.length === 4)
    const stopped = consumer.stop(AbortSignal.timeout(5_000))
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(signals.some((signal) => signal.aborted)).toBe(false)
    open()
    await stopped
    expect(started).toHaveLength(4)
    expect(await counts()).toEqual({ ...empty, waiting: 6 })
    expect(consumer.running()).toBe(false)
  })

  it('gives a job back at once that its handlers have not all begun, and another takes it', async () => {
    const producer = await openProducer()
    const { started, handle, open } = gate()
    const consumer = await openConsumer({ handle, concurrency: 4 })
    const added = deliveries(16)
    await producer.addDeliveries(added)
    await vi.waitUntil(() => started.length === 4)
    const stopped = consumer.stop(AbortSignal.timeout(5_000))
    const { got } = await openNoting()
    // All sixteen: the lease refuses the four that were begun.
    await vi.waitUntil(() => got.length === 16, { timeout: 5_000 })
    expect(consumer.active()).toBe(4)
    open()
    await stopped
    expect(started).toHaveLength(4)
    await vi.waitUntil(isEmpty)
    expect(got.toSorted()).toEqual(added.map(({ id }) => id).toSorted())
  })

  it('aborts the handlers when its time is up, and does not wait for those that do not listen', async () => {
    const producer = await openProducer()
    const { started, signals, handle } = gate()
    const consumer = await openConsumer({ handle })
    await producer.addDeliveries(deliveries(3))
    await vi.waitUntil(() => started.length === 3)
    const from = performance.now()
    const stopped = consumer.stop(AbortSignal.timeout(200))
    expect(signals.every((signal) => !signal.aborted)).toBe(true)
    await stopped
    expect(signals.every((signal) => signal.aborted)).toBe(true)
    expect(performance.now() - from).toBeLessThan(600)
  })

  it('is quick when idle', async () => {
    const { consumer } = await openNoting()
    await vi.waitUntil(() => consumer.running())
    const from = performance.now()
    await consumer.stop(AbortSignal.timeout(5_000))
    expect(performance.now() - from).toBeLessThan(500)
  })

  it.each([
    ['has died', () => server.kill()],
    ['hangs', async () => server.freeze()],
  ])('waits for the handlers and then not long for a Redis that %s', async (_, hurt) => {
    const producer = await openProducer()
    const { started, handle, open } = gate()
    const consumer = await openConsumer({ handle })
    await producer.addDeliveries(deliveries(2))
    await vi.waitUntil(() => started.length === 2)
    await hurt()
    const from = performance.now()
    const stopped = consumer.stop(AbortSignal.timeout(10_000))
    setTimeout(open, 200)
    await stopped
    expect(consumer.active()).toBe(0)
    expect(performance.now() - from).toBeGreaterThan(190)
    expect(performance.now() - from).toBeLessThan(2_500)
  })

  it('is at once through when Redis never came', async () => {
    await server.kill()
    const consumer = await openConsumer({})
    const from = performance.now()
    await consumer.stop(AbortSignal.timeout(5_000))
    expect(performance.now() - from).toBeLessThan(200)
    await server.start()
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(consumer.running()).toBe(false)
  })

  it('may be asked twice, or before the start', async () => {
    const consumer = createConsumer({ url: server.url, queue: 'deliver', concurrency: 1, handle: async () => {}, log })
    await Promise.all([consumer.stop(AbortSignal.timeout(100)), consumer.stop(AbortSignal.timeout(100))])
    await consumer.start()
    expect(consumer.running()).toBe(false)
  })
})

async function refusals(): Promise<number> {
  return Number(/errorstat_OOM:count=(\d+)/.exec(await server.ask.info('errorstats'))?.[1] ?? 0)
}

/** A consumer in a process of its own takes the job, says so, and is killed over it. */
async function killAWorkerAtWork(id: string): Promise<void> {
  const script = `
    import { createConsumer } from ${JSON.stringify(import.meta.resolve('./consumer.ts'))}
    const handle = ({ id }) => new Promise(() => process.stdout.write(id))
    await createConsumer({ url: '${server.url}', queue: 'deliver', concurrency: 1, handle, log: { info() {}, warn() {} }, lockMs: 300 }).start()
  `
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  let said = ''
  child.stdout.on('data', (chunk: Buffer) => {
    said += chunk.toString()
  })
  await vi.waitUntil(() => said === id, { timeout: 5_000 })
  child.kill('SIGKILL')
}
