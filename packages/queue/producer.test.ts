import { newId } from '@tenterhook/schemas/ids'
import type { Lane } from '@tenterhook/schemas/states'
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
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

async function openProducer(url = server.url): Promise<Producer> {
  const producer = createProducer({ url, log })
  onTestFinished(() => producer.stop(AbortSignal.timeout(0)))
  await vi.waitUntil(() => producer.healthy())
  return producer
}

const delivery = (generation = 1, lane: Lane = 'normal') => ({
  id: newId('dlv', Date.now()),
  generation,
  destinationId: newId('dst', Date.now()),
  lane,
})
/** As Redis may see it. */
const stored = ({ id, generation, destinationId }: LaneHint) => ({ id, generation, destinationId })
const waiting = () => server.ask.lrange('{tenterhook}:deliver:wait', 0, -1)
const job = (queue: string, id: string) => server.ask.hgetall(`{tenterhook}:${queue}:${id}`)

describe('adding', () => {
  it('names a deliver job by its first delivery and generation and stores ids only, one attempt, not delayed', async () => {
    const { addDeliveries, counts } = await openProducer()
    const first = delivery(7)
    const second = delivery(1)
    expect(await addDeliveries([first, second])).toBe(true)
    expect(await waiting()).toEqual([`d-${first.id}-7`])
    const record = await job('deliver', `d-${first.id}-7`)
    expect(record).toMatchObject({
      data: JSON.stringify({ deliveries: [stored(first), stored(second)] }),
      delay: '0',
    })
    expect(JSON.parse(record['opts'] ?? '')).toMatchObject({ attempts: 1, removeOnComplete: true, removeOnFail: true })
    expect(counts().added.deliver).toBe(2)
  })

  it('puts at most 32 deliveries into a job', async () => {
    const { addDeliveries } = await openProducer()
    const added = Array.from({ length: 80 }, () => delivery())
    expect(await addDeliveries(added)).toBe(true)
    const jobs = (await waiting()).toReversed()
    expect(jobs).toEqual([`d-${added[0]?.id}-1`, `d-${added[32]?.id}-1`, `d-${added[64]?.id}-1`])
    const records = await Promise.all(
      jobs.map(async (id) => JSON.parse((await job('deliver', id))['data'] ?? '').deliveries),
    )
    expect(records.flat()).toEqual(added.map(stored))
  })

  it('adds at once what comes alone', async () => {
    const { addDeliveries } = await openProducer()
    const from = performance.now()
    await addDeliveries([delivery()])
    expect(performance.now() - from).toBeLessThan(100)
  })

  it('stores nothing of a delivery but ids and generation, whatever is passed', async () => {
    const { addDeliveries } = await openProducer()
    const one = { ...delivery(), tenant: 'acme', body: 'secret' }
    await addDeliveries([one])
    expect(JSON.stringify(await job('deliver', `d-${one.id}-1`))).not.toMatch(/secret|acme/)
  })

  it('puts each delivery on the queue of its lane', async () => {
    const { addDeliveries, counts } = await openProducer()
    const [normal, retry, quarantine] = [delivery(1), delivery(2, 'retry'), delivery(3, 'quarantine')]
    expect(await addDeliveries([quarantine, normal, retry, delivery(4)])).toBe(true)
    expect(await waiting()).toEqual([`d-${normal.id}-1`])
    expect(await job('deliver-retry', `d-${retry.id}-2`)).toMatchObject({
      data: JSON.stringify({ deliveries: [stored(retry)] }),
    })
    expect(await server.ask.lrange('{tenterhook}:deliver-quarantine:wait', 0, -1)).toEqual([`d-${quarantine.id}-3`])
    expect(counts().added).toEqual({ route: 0, deliver: 2, 'deliver-retry': 1, 'deliver-quarantine': 1 })
  })

  it('puts the events of one turn into one route job named by the first', async () => {
    const { addRoute } = await openProducer()
    const ids = [newId('evt', 1), newId('evt', 2), newId('evt', 3)] as const
    addRoute([ids[0]])
    addRoute([ids[1], ids[2]])
    await vi.waitUntil(async () => (await server.ask.llen('{tenterhook}:route:wait')) > 0)
    expect(await server.ask.lrange('{tenterhook}:route:wait', 0, -1)).toEqual([`r-${ids[0]}`])
    expect((await job('route', `r-${ids[0]}`))['data']).toBe(JSON.stringify({ eventIds: ids }))
  })

  it('splits more than 200 events into several route jobs', async () => {
    const { addRoute, counts } = await openProducer()
    addRoute(Array.from({ length: 450 }, (_, i) => newId('evt', i)))
    await vi.waitUntil(() => counts().added.route === 450)
    const ids = await server.ask.lrange('{tenterhook}:route:wait', 0, -1)
    const sizes = await Promise.all(
      ids.map(async (id) => JSON.parse((await job('route', id))['data'] ?? '').eventIds.length),
    )
    expect(sizes.toSorted((a, b) => a - b)).toEqual([50, 200, 200])
  })

  it('adds a job that exists only once, so that a backlog never multiplies', async () => {
    const { addDeliveries } = await openProducer()
    const one = delivery()
    expect(await addDeliveries([one])).toBe(true)
    expect(await addDeliveries([one])).toBe(true)
    expect(await addDeliveries([one])).toBe(true)
    expect(await waiting()).toHaveLength(1)
  })

  it('adds the next generation beside a job that is still there', async () => {
    const { addDeliveries } = await openProducer()
    const one = delivery(1)
    await addDeliveries([one])
    await addDeliveries([{ ...one, generation: 2 }])
    expect(await waiting()).toEqual([`d-${one.id}-2`, `d-${one.id}-1`])
  })

  it('leaves nothing to speak of in the event stream once the flags of the queue were set', async () => {
    const { addDeliveries } = await openProducer()
    await server.ask.hset('{tenterhook}:deliver:meta', 'opts.maxLenEvents', 0)
    await addDeliveries(Array.from({ length: 500 }, () => delivery()))
    expect(await server.ask.xlen('{tenterhook}:deliver:events')).toBeLessThan(10)
  })

  it('takes user, password and database from the URL', async () => {
    await server.ask.call('ACL', 'SETUSER', 'hook', 'on', '>se:cret', '~*', '+@all')
    const { addDeliveries } = await openProducer(server.url.replace('//', '//hook:se%3Acret@') + '/3')
    const one = delivery()
    expect(await addDeliveries([one])).toBe(true)
    await server.ask.select(3)
    expect(await waiting()).toEqual([`d-${one.id}-1`])
  })
})

describe('while Redis is away', () => {
  it('notices a Redis that hangs within half a second and never makes a caller wait longer than two', async () => {
    const producer = await openProducer()
    server.freeze()
    const from = performance.now()
    producer.addRoute([newId('evt', 1)])
    expect(performance.now() - from).toBeLessThan(50)
    const first = producer.addDeliveries([delivery()])
    await vi.waitUntil(() => !producer.healthy(), { timeout: 500, interval: 5 })
    const known = performance.now()
    expect(await producer.addDeliveries([delivery()])).toBe(false)
    expect(performance.now() - known).toBeLessThan(20)
    expect(await first).toBe(false)
    expect(performance.now() - from).toBeLessThan(2_000)
  })

  it('is healthy again soon after Redis is', async () => {
    const producer = await openProducer()
    server.freeze()
    expect(await producer.addDeliveries([delivery()])).toBe(false)
    expect(producer.healthy()).toBe(false)
    server.thaw()
    await vi.waitUntil(() => producer.healthy(), { timeout: 4_000 })
    expect(await producer.addDeliveries([delivery()])).toBe(true)
  })

  it('stays unhealthy while Redis hangs, however often the connection is tried', async () => {
    const producer = await openProducer()
    server.freeze()
    await producer.addDeliveries([delivery()])
    const seen = new Set<boolean>()
    const watch = setInterval(() => seen.add(producer.healthy()), 5)
    onTestFinished(() => clearInterval(watch))
    await new Promise((resolve) => setTimeout(resolve, 2_500))
    expect([...seen]).toEqual([false])
  })

  it('starts without a Redis and adds when there is one', async () => {
    await server.kill()
    const producer = createProducer({ url: server.url, log })
    onTestFinished(() => producer.stop(AbortSignal.timeout(0)))
    expect(producer.healthy()).toBe(false)
    expect(await producer.addDeliveries([delivery()])).toBe(false)
    expect(producer.counts().dropped.deliver).toBe(1)
    await server.start()
    await vi.waitUntil(() => producer.healthy(), { timeout: 4_000 })
    expect(await producer.addDeliveries([delivery()])).toBe(true)
  })

  it('goes on after a wipe and after a restart', async () => {
    const producer = await openProducer()
    await producer.addDeliveries([delivery()])
    await server.ask.flushall()
    await server.ask.script('FLUSH')
    expect(await producer.addDeliveries([delivery()])).toBe(true)
    await server.kill()
    await vi.waitUntil(() => !producer.healthy())
    await server.start()
    await vi.waitUntil(() => producer.healthy(), { timeout: 4_000 })
    expect(await producer.addDeliveries([delivery()])).toBe(true)
  })

  it('says so in one line when Redis goes and one when it is back', async () => {
    const producer = await openProducer()
    await server.kill()
    await vi.waitUntil(() => !producer.healthy())
    for (let i = 0; i < 50; i++) producer.addRoute([newId('evt', i)])
    await new Promise((resolve) => setTimeout(resolve, 500))
    await server.start()
    await vi.waitUntil(() => producer.healthy(), { timeout: 4_000 })
    expect(lines).toEqual(['redis.down', 'redis.up'])
  })

  it('holds at most 20,000 ids while a batch is on its way, and drops and counts only what does not fit', async () => {
    const producer = await openProducer()
    server.freeze()
    const ids = (n: number) => Array.from({ length: n }, (_, i) => newId('evt', i))
    producer.addRoute(ids(1))
    await new Promise((resolve) => setTimeout(resolve, 20))
    producer.addRoute(ids(15_000))
    producer.addRoute(ids(6_000))
    expect(producer.counts().dropped.route).toBe(1_000)
    producer.addRoute(ids(5_000))
    expect(producer.counts().dropped.route).toBe(6_000)
    await vi.waitUntil(() => producer.counts().dropped.route === 26_000, { timeout: 4_000 })
    expect(producer.counts()).toMatchObject({ added: { route: 0 }, failed: { route: 1 } })
  })

  it('reports an add that Redis refuses as failed, is unhealthy for a moment, and tries again', async () => {
    const producer = await openProducer()
    // A replica takes no writes.
    await server.ask.replicaof('127.0.0.1', 1)
    expect(await producer.addDeliveries([delivery()])).toBe(false)
    expect(producer.counts().failed.deliver).toBe(1)
    expect(lines).toContain('queue.add_failed')
    expect(producer.healthy()).toBe(false)
    expect(await producer.addDeliveries([delivery()])).toBe(false)
    expect(producer.counts()).toMatchObject({ failed: { deliver: 1 }, dropped: { deliver: 1 } })
    await server.ask.replicaof('NO', 'ONE')
    await vi.waitUntil(() => producer.healthy(), { timeout: 2_000 })
    expect(await producer.addDeliveries([delivery()])).toBe(true)
  })

  it('adds nothing to a Redis that is nearly full, and goes on when there is room again', async () => {
    const producer = await openProducer()
    await server.ask.setrange('ballast', 20 * 1_048_576, 'x')
    await server.ask.config('SET', 'maxmemory', '25mb')
    await vi.waitUntil(() => !producer.healthy(), { timeout: 5_000 })
    expect(await producer.addDeliveries([delivery()])).toBe(false)
    producer.addRoute([newId('evt', 1)])
    expect(producer.counts()).toMatchObject({
      dropped: { route: 1, deliver: 1 },
      failed: { route: 0, deliver: 0 },
    })
    await server.ask.del('ballast')
    await vi.waitUntil(() => producer.healthy(), { timeout: 5_000 })
    expect(await producer.addDeliveries([delivery()])).toBe(true)
  })
})

describe('stopping', () => {
  it('sends what it holds, then takes no more', async () => {
    const producer = await openProducer()
    const added = producer.addDeliveries(Array.from({ length: 1_200 }, () => delivery()))
    await producer.stop(AbortSignal.timeout(5_000))
    expect(await added).toBe(true)
    expect(await waiting()).toHaveLength(Math.ceil(1_000 / 32) + Math.ceil(200 / 32))
    expect(await producer.addDeliveries([delivery()])).toBe(false)
    expect(producer.counts()).toMatchObject({ added: { deliver: 1_200 }, dropped: { deliver: 1 } })
  })

  it('does not wait for a Redis that hangs beyond its time, and says nothing about the connection it closed', async () => {
    const producer = await openProducer()
    server.freeze()
    producer.addRoute([newId('evt', 1)])
    const from = performance.now()
    await producer.stop(AbortSignal.timeout(50))
    expect(performance.now() - from).toBeLessThan(300)
    expect(lines).not.toContain('redis.down')
  })
})
