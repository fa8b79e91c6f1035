import { soleHeader } from '@tenterhook/schemas/headers'
import { durationMs } from '@tenterhook/schemas/duration'
import { defaultSchedule } from '@tenterhook/schemas/connection'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { api } from '../support/api.ts'
import { answer, inTurn } from '../support/behaviours.ts'
import { until } from '../support/poll.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { attemptsOf, deliveriesOf } from '../support/rows.ts'
import type { DeliveryRow } from '../support/rows.ts'
import { send } from '../support/send.ts'
import { sharedStack } from '../support/stack.ts'

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.stop())

const names = [
  'dated',
  'failing',
  'busy',
  'overloaded',
  'greedy',
  'gone',
  'partly-gone',
  'old',
  'later',
  'off',
  'healthy',
  'few',
] as const
const config = () => ({
  sources: Object.fromEntries(names.map((name) => [name, { verification: { scheme: 'none' as const } }])),
  destinations: Object.fromEntries(
    names.map((name) => [name, { url: `${receiver.url}/${name}`, forwardPath: name === 'partly-gone' }]),
  ),
  connections: Object.fromEntries(
    names.map((name) => [
      name,
      {
        source: name,
        destination: name,
        ...(name === 'old' && { retry: { schedule: ['30m', '30m', '30m', '30m'], jitter: 0, maxAge: '70m' } }),
        ...(name === 'few' && { retry: { schedule: ['10m'], jitter: 0 } }),
        ...(name === 'later' && { delay: '2h' }),
        ...(name === 'off' && { enabled: false }),
      },
    ]),
  ),
})
const stack = sharedStack(() => ({ services: ['ingest', 'router', 'dispatcher', 'console'], config: config() }))

/** How long a wait in Postgres may be overdue: the feed's round of 500 ms, and a machine with other things to do. */
const lateMsMax = 4_000
/** How near a due time the clock is brought: what came in this time came too early. */
const leadMs = 800

async function accept(name: (typeof names)[number], rest = ''): Promise<string> {
  const accepted = await send(stack(), name, { body: `{"to":"${name}"}`, rest })
  expect(accepted.status).toBe(200)
  return String(accepted.json['id'])
}

async function theDelivery(
  eventId: string,
  is: (delivery: DeliveryRow) => boolean,
  what: string,
): Promise<DeliveryRow & { dueMs: number }> {
  const found = await until(async () => (await deliveriesOf(stack().store, eventId)).find(is), { what })
  return { ...found, dueMs: stack().protocolMs() + (found.dueInMs ?? 0) }
}

const failed = (times: number) => (delivery: DeliveryRow) =>
  delivery.state === 'retrying' && delivery.failures === times

/** Brings the clock to just before `dueMs`, and says how long after it the path's next request came. */
async function nextRequest(path: string, dueMs: number): Promise<number> {
  const before = receiver.count(path)
  const shiftMs = dueMs - stack().protocolMs() - leadMs
  if (shiftMs > 0) await stack().shiftClock(shiftMs)
  const aheadMs = stack().protocolMs() - Date.now()
  const request = await until(() => receiver.received(path)[before], {
    what: `the next request to ${path}`,
    timeoutMs: leadMs + 2 * lateMsMax,
  })
  return request.at + aheadMs - dueMs
}

function expectOnTime(lateMs: number): void {
  // A millisecond is lost in rounding, on each side.
  expect(lateMs).toBeGreaterThanOrEqual(-2)
  expect(lateMs).toBeLessThan(lateMsMax)
}

/** Proof that time went by and everything due went out: an event accepted now has been there and back. */
async function meanwhile(): Promise<void> {
  const id = await accept('healthy')
  await theDelivery(id, ({ state }) => state === 'delivered', 'a healthy destination to be served meanwhile')
}

describe('Retry-After', () => {
  // First: services learn of a shifted clock within ten seconds only, and a date is read by theirs.
  it('as a date is kept to', async () => {
    const at = new Date(Math.ceil((Date.now() + 90_000) / 1_000) * 1_000)
    receiver.on('/dated', inTurn(answer({ status: 503, headers: [['Retry-After', at.toUTCString()]] }), answer()))
    const id = await accept('dated')
    const { dueMs } = await theDelivery(id, failed(1), 'the first attempt')
    expect(Math.abs(dueMs - at.getTime())).toBeLessThan(1_000)
    expectOnTime(await nextRequest('/dated', dueMs))
    await theDelivery(id, ({ state }) => state === 'delivered', 'the second attempt')
  })

  it('in seconds takes the place of the schedule’s wait, and holds what else is for the destination', async () => {
    receiver.on('/busy', inTurn(answer({ status: 429, headers: [['Retry-After', '120']] }), answer()))
    const first = await accept('busy')
    const refusedMs = stack().protocolMs()
    const { dueMs } = await theDelivery(first, failed(1), 'the first attempt')
    expect(dueMs - refusedMs).toBeGreaterThan(118_000)
    expect(dueMs - refusedMs).toBeLessThan(120_000 + lateMsMax)
    const second = await accept('busy')
    await stack().shiftClock(100_000)
    await meanwhile()
    expect(receiver.count('/busy')).toBe(1)
    expect(await theDelivery(second, () => true, 'the second')).toMatchObject({ state: 'pending', attempt: 0 })
    expectOnTime(await nextRequest('/busy', dueMs))
    for (const id of [first, second]) await theDelivery(id, ({ state }) => state === 'delivered', 'both to arrive')
    expect(receiver.count('/busy')).toBe(3)
  })

  it('never makes anything wait for more than a day', async () => {
    receiver.on('/greedy', answer({ status: 429, headers: [['Retry-After', '99999999']] }))
    const { dueInMs } = await theDelivery(await accept('greedy'), failed(1), 'the first attempt')
    expect(dueInMs).toBeGreaterThan(86_400_000 - 60_000)
    // It is asked in a transaction that may have begun a moment before the result's.
    expect(Math.floor(dueInMs ?? NaN)).toBeLessThanOrEqual(86_400_000)
  })

  it('that says nothing leaves a 503 to the schedule, and slows the destination for a moment', async () => {
    receiver.on('/overloaded', inTurn(answer({ status: 503 }), answer()))
    const first = await accept('overloaded')
    await theDelivery(first, failed(1), 'the first attempt')
    await accept('overloaded')
    await meanwhile()
    expect(receiver.count('/overloaded')).toBe(1)
    await stack().shiftClock(durationMs('5s') * 1.2)
    await until(() => receiver.count('/overloaded') === 3, { what: 'both to arrive' })
  })
})

describe('a delivery that keeps failing', () => {
  it(
    'is tried at each time of the default schedule, no sooner, soon after, and ends as a dead letter',
    { timeout: 90_000 },
    async () => {
      receiver.on('/failing', answer({ status: 500, body: 'no' }))
      const id = await accept('failing')
      for (const [index, step] of defaultSchedule.entries()) {
        const { dueMs } = await theDelivery(id, failed(index + 1), `attempt ${index + 1} to fail`)
        const requestedMs = (receiver.received('/failing').at(-1)?.at ?? 0) + stack().protocolMs() - Date.now()
        const waitMs = dueMs - requestedMs
        expect(waitMs, `the wait before retry ${index + 1}`).toBeGreaterThanOrEqual(durationMs(step) * 0.8 - 2)
        expect(waitMs, `the wait before retry ${index + 1}`).toBeLessThan(durationMs(step) * 1.2 + 1_000)
        expectOnTime(await nextRequest('/failing', dueMs))
      }
      const dead = await theDelivery(id, ({ dueInMs }) => dueInMs === null, 'it to end')
      expect(dead).toMatchObject({
        state: 'dead',
        deadReason: 'retries_used_up',
        failures: 11,
        attempt: 11,
        lostLeases: 0,
      })
      const attempts = await attemptsOf(stack().store, dead.id)
      expect(attempts.map(({ number, status, outcome }) => [number, status, outcome])).toEqual(
        Array.from({ length: 11 }, (_, n) => [n + 1, 500, 'rejected']),
      )
      await stack().shiftClock(10 * 86_400_000)
      await meanwhile()
      const received = receiver.received('/failing')
      expect(received.map(({ headers }) => soleHeader(headers, 'webhook-attempt'))).toEqual(
        Array.from({ length: 11 }, (_, n) => String(n + 1)),
      )
      expect(new Set(received.map(({ headers }) => soleHeader(headers, 'webhook-id')))).toEqual(new Set([dead.id]))
      expect(new Set(received.map(({ body }) => body.toString()))).toEqual(new Set(['{"to":"failing"}']))
    },
  )

  it('past its maximum age ends as expired, whatever its schedule has left', async () => {
    receiver.on('/old', answer({ status: 500 }))
    const id = await accept('old')
    for (const times of [1, 2, 3]) {
      const { dueMs, state } = await theDelivery(
        id,
        (delivery) => delivery.dueInMs === null || failed(times)(delivery),
        'the next failure',
      )
      if (state === 'dead') break
      await nextRequest('/old', dueMs)
    }
    expect(await theDelivery(id, ({ dueInMs }) => dueInMs === null, 'it to end')).toMatchObject({
      state: 'dead',
      deadReason: 'expired',
      failures: 3,
    })
  })
})

describe('a connection', () => {
  it('with a delay keeps its first attempt until then', async () => {
    const id = await accept('later')
    const { dueMs, dueInMs } = await theDelivery(id, ({ state }) => state === 'pending', 'it to be routed')
    expect(dueInMs).toBeGreaterThan(durationMs('2h') - lateMsMax)
    expectOnTime(await nextRequest('/later', dueMs))
  })

  it('that is disabled makes no delivery, and the event says so', async () => {
    const id = await accept('off')
    await until(async () => (await api(stack(), 'GET', `/events/${id}`)).json['state'] === 'routed', {
      what: 'it to be routed',
    })
    const { json } = await api(stack(), 'GET', `/events/${id}`)
    expect(json).toMatchObject({ deliveries: [] })
    expect(JSON.stringify(json['notMatched'])).toContain('disabled')
  })
})

describe('410', () => {
  it('pauses the destination and ends that delivery; what comes after waits, and resuming drains it', async () => {
    receiver.on('/gone', answer({ status: 410 }))
    const first = await accept('gone')
    expect(await theDelivery(first, ({ dueInMs }) => dueInMs === null, 'it to end')).toMatchObject({
      state: 'dead',
      deadReason: 'gone',
      attempt: 1,
    })
    await until(async () => (await api(stack(), 'GET', '/destinations/gone')).json['paused'] === true, {
      what: 'the destination to be paused',
    })
    const later = await Promise.all([1, 2, 3].map(() => accept('gone')))
    await stack().shiftClock(86_400_000)
    await meanwhile()
    expect(receiver.count('/gone')).toBe(1)
    const { json } = await api(stack(), 'GET', '/deliveries?destination=gone&state=held')
    expect(json['data']).toHaveLength(3)
    for (const id of later)
      expect(await theDelivery(id, () => true, 'a later one')).toMatchObject({ state: 'pending', attempt: 0 })

    receiver.on('/gone', answer())
    expect((await api(stack(), 'POST', '/destinations/gone/resume')).status).toBe(200)
    for (const id of later) await theDelivery(id, ({ state }) => state === 'delivered', 'what waited to arrive')
    expect(receiver.count('/gone')).toBe(4)
    expect(await theDelivery(first, () => true, 'the first')).toMatchObject({ state: 'dead' })
  })

  it('of a forwarded path ends that delivery alone', async () => {
    receiver.on('/partly-gone/a', answer({ status: 410 }))
    const dead = await accept('partly-gone', '/a')
    expect(await theDelivery(dead, ({ dueInMs }) => dueInMs === null, 'it to end')).toMatchObject({
      state: 'dead',
      deadReason: 'gone',
      attempt: 1,
    })
    await theDelivery(
      await accept('partly-gone', '/b'),
      ({ state }) => state === 'delivered',
      'another path to be served',
    )
    expect((await api(stack(), 'GET', '/destinations/partly-gone')).json['paused']).toBe(false)
  })
})

describe('a dead letter', () => {
  async function deadLetter(): Promise<{ eventId: string; dead: DeliveryRow }> {
    receiver.on('/few', answer({ status: 500 }))
    const eventId = await accept('few')
    const { dueMs } = await theDelivery(eventId, failed(1), 'the first failure')
    await nextRequest('/few', dueMs)
    return { eventId, dead: await theDelivery(eventId, ({ state }) => state === 'dead', 'it to die') }
  }

  it('is retried by a person: the same delivery, the same bytes, with its whole schedule before it', async () => {
    const { eventId, dead } = await deadLetter()
    const key = crypto.randomUUID()
    const answers = [await api(stack(), 'POST', `/deliveries/${dead.id}/retry`, { key })]
    const { dueMs } = await theDelivery(
      eventId,
      ({ state, attempt }) => state === 'retrying' && attempt === 3,
      'the attempt asked for',
    )
    receiver.on('/few', answer())
    await nextRequest('/few', dueMs)
    expect(await theDelivery(eventId, ({ state }) => state === 'delivered', 'it to arrive')).toMatchObject({
      id: dead.id,
      attempt: 4,
    })
    answers.push(await api(stack(), 'POST', `/deliveries/${dead.id}/retry`, { key }))
    expect(answers.map(({ status }) => status)).toEqual([202, 202])
    const requests = receiver.received('/few')
    expect(new Set(requests.map(({ headers }) => soleHeader(headers, 'webhook-id')))).toEqual(new Set([dead.id]))
    expect(requests).toHaveLength(4)
    expect((await api(stack(), 'POST', `/deliveries/${dead.id}/retry`)).json).toMatchObject({
      status: 409,
      code: 'already_delivered',
    })
  })

  it('’s event is replayed: routed again by today’s rules, under new ids, once for each key', async () => {
    receiver.clear()
    const { eventId, dead } = await deadLetter()
    const { connections, ...rest } = config()
    await stack().apply({
      ...rest,
      connections: { ...connections, 'few-to-healthy': { source: 'few', destination: 'healthy' } },
    })
    receiver.on('/few', answer())
    const key = crypto.randomUUID()
    const [first, again] = [
      await api(stack(), 'POST', `/events/${eventId}/replay`, { key }),
      await api(stack(), 'POST', `/events/${eventId}/replay`, { key }),
    ]
    expect([first.status, again.status]).toEqual([202, 202])
    expect(again.json).toEqual(first.json)
    await until(() => receiver.count('/few') === 3 && receiver.count('/healthy') === 1, {
      what: 'both deliveries of the replay',
    })
    const all = await until(
      async () => {
        const rows = await deliveriesOf(stack().store, eventId)
        return rows.filter(({ state }) => state === 'delivered').length === 2 && rows
      },
      { what: 'the replay to be recorded' },
    )
    expect(all.find(({ id }) => id === dead.id)).toMatchObject({ state: 'dead', replayOf: null })
    for (const { replayOf } of all.filter(({ id }) => id !== dead.id)) expect(replayOf).toBe(eventId)
    expect(all.map(({ connection }) => connection).toSorted()).toEqual(['few', 'few', 'few-to-healthy'])
    expect(new Set(receiver.received().map(({ body }) => body.toString()))).toEqual(new Set(['{"to":"few"}']))
    await meanwhile()
    expect(receiver.count('/few')).toBe(3)
  })
})
