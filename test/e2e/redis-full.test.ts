import { queueNames, queuePrefix } from '@tenterhook/queue/names'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { checkInvariants, lastSeq } from '../chaos/invariants.ts'
import { loadConfig, startLoad } from '../support/load.ts'
import type { Load } from '../support/load.ts'
import { until } from '../support/poll.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { drained } from '../support/rows.ts'
import { sharedStack } from '../support/stack.ts'

const perSecond = 60
const limitBytes = 100 * 1_048_576
/** A look each second, and a slow machine. */
const noticedWithinMs = 15_000

let receiver: Receiver
let redis: Redis
let afterSeq = 0
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.stop())
const stack = sharedStack(() => ({ config: loadConfig(receiver) }))

beforeAll(async () => {
  redis = new Redis(stack().redis.url)
  await redis.config('SET', 'maxmemory', limitBytes)
})
afterAll(() => redis.disconnect())
beforeEach(async () => {
  await drained(stack().store)
  receiver.clear()
  afterSeq = await lastSeq(stack().store)
})

/** Takes this share of what Redis may use. */
async function fill(share: number): Promise<void> {
  await redis.del('ballast')
  await redis.setrange('ballast', limitBytes * share, 'x')
}

/** Jobs that were ever added, by BullMQ's own counting. */
async function jobsAdded(): Promise<number> {
  const counts = await redis.mget(queueNames.map((name) => `${queuePrefix}:${name}:id`))
  return counts.reduce((sum, count) => sum + Number(count ?? 0), 0)
}

/** The load goes on, and no job comes of it. */
async function noJobsAreAdded(load: Load): Promise<void> {
  await until(
    async () => {
      const before = await jobsAdded()
      await load.pass(1_000)
      return (await jobsAdded()) === before
    },
    { what: 'nothing more to be put into Redis', timeoutMs: noticedWithinMs },
  )
}

async function provesNothingHappened(load: Load): Promise<void> {
  const sent = await load.stop()
  expect(load.tally()).toEqual({ 200: sent.length })
  await drained(stack().store, 30_000)
  const tally = await checkInvariants(stack().store, { sent, received: receiver.received(), afterSeq })
  expect(tally).toEqual({ events: sent.length, deliveries: 2 * sent.length, requests: 2 * sent.length, repeats: 0 })
}

it.each([
  ['at seven tenths of its memory', 0.75],
  ['that has no memory left and refuses every write', 1.01],
])(
  'a Redis %s is given nothing more; everything is accepted and delivered without it, and with it again afterwards',
  { timeout: 90_000 },
  async (_what, share) => {
    const load = startLoad(stack(), { perSecond })
    await load.pass(1_000)
    expect(await jobsAdded()).toBeGreaterThan(0)
    await fill(share)
    await noJobsAreAdded(load)

    const before = await jobsAdded()
    const accepted = load.sent.length
    await load.pass(2_000)
    // What came in meanwhile arrives meanwhile.
    await until(() => receiver.count('/plain') > accepted + perSecond, { what: 'deliveries without the queue' })
    expect(await jobsAdded()).toBe(before)

    await redis.del('ballast')
    await until(async () => (await jobsAdded()) > before + 10, {
      what: 'jobs to be added again',
      timeoutMs: noticedWithinMs,
    })
    await provesNothingHappened(load)
  },
)

it('between the limits nothing changes back and forth', { timeout: 60_000 }, async () => {
  const load = startLoad(stack(), { perSecond })
  await fill(0.75)
  await noJobsAreAdded(load)
  await fill(0.63)
  const before = await jobsAdded()
  await load.pass(3_000)
  expect(await jobsAdded()).toBe(before)
  await redis.del('ballast')
  await provesNothingHappened(load)
})
