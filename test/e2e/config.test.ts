import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { api } from '../support/api.ts'
import { answer, hang } from '../support/behaviours.ts'
import { until } from '../support/poll.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { deliveriesOf, drained } from '../support/rows.ts'
import { send } from '../support/send.ts'
import { sharedStack } from '../support/stack.ts'

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.stop())

const secret = 'the first secret'
const sources = { hub: { verification: { scheme: 'github' as const, secret } } }
const destinations = () => ({ a: { url: `${receiver.url}/a`, timeout: '2s' }, b: { url: `${receiver.url}/b` } })
const base = () => ({ sources, destinations: destinations(), connections: { a: { source: 'hub', destination: 'a' } } })

const stack = sharedStack(() => ({
  services: ['ingest', 'ingest', 'router', 'router', 'dispatcher', 'console'],
  config: base(),
}))
beforeEach(async () => {
  await stack().apply(base(), { prune: true })
  await drained(stack().store)
  receiver.clear()
})

const origins = () => ['ingest', 'ingest2'].map((name) => stack().service(name).url)

/** Events at once, over both copies of ingest, to be routed by whichever router is first. */
async function burst(source: string, count: number): Promise<void> {
  const answers = await Promise.all(
    Array.from({ length: count }, (_, n) => send(stack(), source, { origin: origins()[n % 2] ?? '', body: '{}' })),
  )
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200))
}

describe('once apply has answered', () => {
  it(
    'the next event is routed by it, whichever of two routers takes it, time after time',
    { timeout: 60_000 },
    async () => {
      for (let round = 0; round < 10; round++) {
        receiver.clear()
        const to = round % 2 === 0 ? 'b' : 'a'
        await stack().apply({ ...base(), connections: { [`to-${to}-${round}`]: { source: 'hub', destination: to } } })
        await burst('hub', 6)
        await drained(stack().store)
        expect([receiver.count('/a'), receiver.count('/b')], `round ${round}`).toEqual(to === 'a' ? [6, 0] : [0, 6])
      }
    },
  )

  it('a filter that changed decides about the next event, and each event says which version decided', async () => {
    const filtered = (value: number) => ({
      ...base(),
      connections: { a: { source: 'hub', destination: 'a', filter: { 'body.n': value } } },
    })
    const versions: unknown[] = []
    for (const value of [1, 2]) {
      await stack().apply(filtered(value))
      for (const n of [1, 2]) {
        const { json } = await send(stack(), 'hub', {
          body: `{"n":${n}}`,
          headers: [['Content-Type', 'application/json']],
        })
        await drained(stack().store)
        const [delivery] = await deliveriesOf(stack().store, String(json['id']))
        expect(delivery !== undefined, `n = ${n} where ${value} is asked for`).toBe(n === value)
        const { rows } = await stack().store.durable.query<{ version: string }>(
          'SELECT config_version AS version FROM events WHERE id = $1',
          [json['id']],
        )
        versions.push(rows[0]?.version)
      }
    }
    expect(versions[0]).toBe(versions[1])
    expect(versions[2]).toBe(versions[3])
    expect(Number(versions[2])).toBeGreaterThan(Number(versions[0]))
  })

  it('a new source is there at every copy of ingest, and a new secret counts', async () => {
    await stack().apply({
      ...base(),
      sources: { ...sources, fresh: { verification: { scheme: 'github', secret: 'fresh' } } },
    })
    await burst('fresh', 4)
    const rotated = { hub: { verification: { scheme: 'github' as const, secrets: ['the second secret', secret] } } }
    const old = stack().verificationOf('hub')
    await stack().apply({ ...base(), sources: rotated })
    await burst('hub', 4)
    for (const origin of origins())
      expect((await send(stack(), 'hub', { origin, body: '{}', sign: old })).status).toBe(200)
    await stack().apply({
      ...base(),
      sources: { hub: { verification: { scheme: 'github', secret: 'the second secret' } } },
    })
    await burst('hub', 4)
    // One that was taken back is refused within a second or two, at each copy.
    for (const origin of origins()) {
      await until(async () => (await send(stack(), 'hub', { origin, body: '{}', sign: old })).status === 401, {
        what: 'the old secret to be refused',
        timeoutMs: 3_000,
      })
    }
  })

  it('a source that was removed is 404 within a second or two', async () => {
    await stack().apply({ ...base(), sources: { ...sources, brief: { verification: { scheme: 'none' } } } })
    await burst('brief', 2)
    await stack().apply(base())
    for (const origin of origins()) {
      await until(async () => (await send(stack(), 'brief', { origin, body: '{}', sign: false })).status === 404, {
        what: 'the source to be gone',
        timeoutMs: 3_000,
      })
    }
  })

  it('what waits is sent to the destination’s new address, under its new settings', async () => {
    receiver.on('/a', answer({ status: 500 }))
    const { json } = await send(stack(), 'hub', { body: '{"moved":true}' })
    await until(async () => (await deliveriesOf(stack().store, String(json['id'])))[0]?.failures === 1, {
      what: 'the first attempt to fail',
    })
    await stack().apply({
      ...base(),
      destinations: { ...destinations(), a: { url: `${receiver.url}/moved`, headers: { 'X-New': 'yes' } } },
    })
    await stack().shiftClock(7_000)
    const moved = await until(() => receiver.received('/moved')[0], { what: 'the delivery at its new address' })
    expect(moved.headers.find(([name]) => name.toLowerCase() === 'x-new')?.[1]).toBe('yes')
    expect(moved.body.toString()).toBe('{"moved":true}')
  })
})

describe('a destination that is removed', () => {
  const withoutA = () => ({
    sources,
    destinations: { b: destinations().b },
    connections: { b: { source: 'hub', destination: 'b' } },
  })

  it('with deliveries that have not ended is refused without prune, and nothing changes', async () => {
    await api(stack(), 'POST', '/destinations/a/pause', { body: {} })
    await send(stack(), 'hub', { body: '{}' })
    await until(async () => (await api(stack(), 'GET', '/deliveries?destination=a&state=held')).json['data'], {
      what: 'the delivery to wait',
    })
    await expect(stack().apply(withoutA())).rejects.toThrow(/unfinished/)
    expect((await api(stack(), 'GET', '/destinations/a')).status).toBe(200)
    await api(stack(), 'POST', '/destinations/a/resume', { body: {} })
    await drained(stack().store)
    expect(receiver.count('/a')).toBe(1)
  })

  it(
    'takes what waits for it with it, as dead letters that say so; what is under way ends as it ends',
    { timeout: 30_000 },
    async () => {
      receiver.on('/a', hang())
      const underWay = await send(stack(), 'hub', { body: '{"first":true}' })
      await until(() => receiver.count('/a') === 1, { what: 'the first attempt to be under way' })
      await api(stack(), 'POST', '/destinations/a/pause', { body: {} })
      const waiting = await Promise.all(
        Array.from({ length: 5 }, (_, n) => send(stack(), 'hub', { body: `{"n":${n}}` })),
      )
      await until(
        async () =>
          (await Promise.all(waiting.map(({ json }) => deliveriesOf(stack().store, String(json['id']))))).every(
            (rows) => rows.length === 1,
          ),
        { what: 'all of them to be routed' },
      )
      await stack().apply(withoutA(), { prune: true })
      for (const { json } of waiting) {
        expect(await deliveriesOf(stack().store, String(json['id']))).toEqual([
          expect.objectContaining({ state: 'dead', deadReason: 'destination_deleted', attempt: 0 }),
        ])
      }
      await burst('hub', 2)
      await until(() => receiver.count('/b') === 2, { what: 'new events at the destination that stayed' })
      const first = async () => (await deliveriesOf(stack().store, String(underWay.json['id'])))[0]
      await until(async () => (await first())?.failures === 1, { what: 'the attempt under way to end by its timeout' })
      await stack().shiftClock(7_000)
      await until(async () => (await first())?.dueInMs === null, { what: 'its retry to find nowhere to go' })
      expect(await first()).toMatchObject({ state: 'dead', deadReason: 'destination_deleted', attempt: 1 })
      expect(receiver.count('/a')).toBe(1)

      const [dead] = waiting
      const eventId = String(dead?.json['id'])
      expect((await api(stack(), 'POST', `/events/${eventId}/replay`)).status).toBe(202)
      await until(() => receiver.received('/b').some(({ body }) => body.toString() === '{"n":0}'), {
        what: 'a replay to go where today’s rules say',
      })
    },
  )
})
