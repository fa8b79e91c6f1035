import { queuePrefix } from '@tenterhook/queue/names'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { checkInvariants, lastSeq } from '../chaos/invariants.ts'
import { loadConfig, startLoad } from '../support/load.ts'
import type { Load } from '../support/load.ts'
import { metricOf } from '../support/metrics.ts'
import { until } from '../support/poll.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { drained } from '../support/rows.ts'
import { sharedStack } from '../support/stack.ts'
import type { Stack } from '../support/stack.ts'

const perSecond = 60
/** Far past every timeout of the queue's clients (1 s) and the time a route job is waited for (5 s). */
const hungMs = 8_000

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.stop())
let afterSeq = 0

/** What every fault of Redis must leave true: nothing refused, nothing lost, nothing sent twice. */
async function provesNothingHappened(stack: Stack, load: Load): Promise<void> {
  const sent = await load.stop()
  expect(load.tally()).toEqual({ 200: sent.length })
  await drained(stack.store)
  const tally = await checkInvariants(stack.store, { sent, received: receiver.received(), afterSeq })
  expect(tally).toEqual({ events: sent.length, deliveries: 2 * sent.length, requests: 2 * sent.length, repeats: 0 })
}

/** Rows that were found by their time and not by a job. */
async function sweptRows(stack: Stack): Promise<number> {
  return (
    (await metricOf(stack.service('router'), 'tenterhook_swept_rows_total')) +
    (await metricOf(stack.service('dispatcher'), 'tenterhook_swept_rows_total'))
  )
}

describe('while events come in', () => {
  const stack = sharedStack(() => ({ config: loadConfig(receiver) }))
  beforeEach(async () => {
    await drained(stack().store)
    receiver.clear()
    afterSeq = await lastSeq(stack().store)
  })

  async function flushAll(): Promise<void> {
    const client = new Redis(stack().redis.url, { lazyConnect: true, maxRetriesPerRequest: 0 })
    await client.connect()
    await client.flushall()
    client.disconnect()
  }

  it('a Redis that hangs for long and is wiped then holds up and loses nothing', { timeout: 60_000 }, async () => {
    const load = startLoad(stack(), { perSecond })
    await load.pass(1_500)
    stack().redis.hang()
    await load.pass(hungMs / 2)
    // Deliveries go on meanwhile: what comes in now arrives before Redis is back.
    const hung = load.sent.length
    await load.pass(hungMs / 2)
    const arrivedMeanwhile = receiver.count('/plain')
    stack().redis.goOn()
    await flushAll()
    await load.pass(1_500)
    expect(arrivedMeanwhile).toBeGreaterThan(hung)
    await provesNothingHappened(stack(), load)
  })

  it(
    'a Redis that is killed and comes back empty, past services that started without it, holds up and loses nothing',
    { timeout: 60_000 },
    async () => {
      const load = startLoad(stack(), { perSecond })
      await load.pass(1_000)
      await stack().redis.kill()
      await load.pass(1_000)
      await stack().service('router').kill('SIGTERM')
      await stack().service('router').start()
      await load.pass(500)
      await stack().redis.start({ data: 'lost' })
      await load.pass(2_000)
      await provesNothingHappened(stack(), load)
    },
  )

  it('the queues carry the work again afterwards: nothing is left to the sweepers', async () => {
    await until(
      async () => {
        const before = await sweptRows(stack())
        const load = startLoad(stack(), { perSecond })
        await load.pass(1_000)
        await load.stop()
        await drained(stack().store)
        return (await sweptRows(stack())) === before
      },
      { what: 'a second of load that no sweeper touched', timeoutMs: 15_000 },
    )
  })

  it(
    'a Redis that is back at an earlier state, with jobs long done, makes nobody send them again',
    { timeout: 60_000 },
    async () => {
      const dispatcher = stack().service('dispatcher')
      dispatcher.signal('SIGSTOP')
      const load = startLoad(stack(), { perSecond })
      await load.pass(1_500)
      const jobsWaiting = async () => {
        const client = new Redis(stack().redis.url)
        const counts = await Promise.all([
          client.llen(`${queuePrefix}:deliver:wait`),
          client.llen(`${queuePrefix}:deliver:active`),
        ])
        client.disconnect()
        return counts[0] + counts[1]
      }
      expect(await jobsWaiting()).toBeGreaterThan(10)
      const before = await stack().redis.copyData()
      dispatcher.signal('SIGCONT')
      await load.pass(1_000)
      await stack().redis.kill()
      dispatcher.signal('SIGSTOP')
      await stack().redis.start({ data: before })
      expect(await jobsWaiting(), 'jobs of the past').toBeGreaterThan(10)
      dispatcher.signal('SIGCONT')
      await load.pass(2_000)
      await provesNothingHappened(stack(), load)
    },
  )
})

describe('without any Redis, ever', () => {
  const stack = sharedStack(() => ({ config: loadConfig(receiver), redis: 'never' }))

  beforeEach(async () => {
    await drained(stack().store)
    receiver.clear()
    afterSeq = await lastSeq(stack().store)
  })

  it('everything is accepted, routed and delivered', { timeout: 60_000 }, async () => {
    const load = startLoad(stack(), { perSecond })
    await load.pass(4_000)
    await provesNothingHappened(stack(), load)
  })

  it(
    'a burst goes out as fast as sockets come free, not a socketful with each sweep',
    { timeout: 60_000 },
    async () => {
      const load = startLoad(stack(), { perSecond: 250 })
      await until(() => load.sent.length >= 1_000, { what: 'a thousand events' })
      const sent = await load.stop()
      // By 64 sockets a second two thousand deliveries would take half a minute.
      await drained(stack().store, 12_000)
      const tally = await checkInvariants(stack().store, { sent, received: receiver.received(), afterSeq })
      expect(tally.repeats).toBe(0)
    },
  )
})
