import { triesMax } from '@tenterhook/store/claim'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { api } from '../support/api.ts'
import { until } from '../support/poll.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { drained, eventStateOf } from '../support/rows.ts'
import { send } from '../support/send.ts'
import { sharedStack } from '../support/stack.ts'

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.stop())

const stack = sharedStack(() => ({
  services: ['ingest', 'router', 'dispatcher', 'console'],
  config: {
    sources: { hub: { verification: { scheme: 'none' } } },
    destinations: { all: { url: `${receiver.url}/all` } },
    connections: { all: { source: 'hub', destination: 'all' } },
  },
}))

describe('an event that kills every router that takes it up', () => {
  it('ends as unroutable after a few tries, holds up no other, and can be replayed', { timeout: 90_000 }, async () => {
    const router = stack().service('router')
    await router.kill('SIGTERM')
    const poison = await send(stack(), 'hub', { body: '{"poison":true}' })
    const id = String(poison.json['id'])
    let deaths = 0
    while ((await eventStateOf(stack().store, id)) === 'accepted') {
      // Past the wait before each next try, which grows with their number.
      await stack().shiftClock(60_000)
      await router.start({
        entry: 'test/chaos/entry-router.ts',
        env: { TENTERHOOK_TEST_CRASH_AT: 'router.after_claim:1' },
        untilReady: false,
      })
      let died = false
      void router.exited().then(() => (died = true))
      await until(async () => died || (await eventStateOf(stack().store, id)) !== 'accepted', {
        what: 'the router to die, or the event to end',
      })
      if (died) deaths += 1
      expect(deaths, 'routers that died').toBeLessThanOrEqual(triesMax + 1)
    }
    expect(await eventStateOf(stack().store, id)).toBe('unroutable')
    // The job's own try is not counted; each that the sweep makes is.
    expect(deaths).toBeGreaterThanOrEqual(triesMax)

    await router.kill('SIGTERM')
    await router.start()
    const good = await send(stack(), 'hub', { body: '{"poison":false}' })
    expect(good.status).toBe(200)
    await drained(stack().store)
    expect(receiver.received().map(({ body }) => body.toString())).toEqual(['{"poison":false}'])

    expect((await api(stack(), 'GET', `/events/${id}`)).json).toMatchObject({ state: 'unroutable', deliveries: [] })
    expect((await api(stack(), 'POST', `/events/${id}/replay`)).status).toBe(202)
    await drained(stack().store)
    expect(receiver.received().map(({ body }) => body.toString())).toEqual(['{"poison":false}', '{"poison":true}'])
  })
})
