import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  deriveDeliveryId,
  timeOfId,
  type ConnectionId,
  type DestinationId,
  type EventId,
  type SourceId,
} from '@tenterhook/schemas/ids'
import { acceptEvents, type NewEvent } from '@tenterhook/store/accept'
import { readConfigVersion } from '@tenterhook/store/config'
import { changeConfig, putConnection, remove } from '@tenterhook/store/config-change'
import { replayEvent } from '@tenterhook/store/replay'
import { routeEvents } from '@tenterhook/store/route'
import { connectionSpec } from '@tenterhook/schemas/connection'
import { until } from '../../test/support/poll.ts'
import { addConnection, addDestination, addSource, newEvent, readRouted } from '../../test/support/store.ts'
import {
  openTestDatabase,
  startTestConsole,
  type Answer,
  type TestConsole,
  type TestDatabase,
} from './console.fixture.ts'

let database: TestDatabase
let console: TestConsole
let source: SourceId
let crm: DestinationId
let chat: DestinationId
let toCrm: ConnectionId
let toChat: ConnectionId

beforeAll(async () => {
  database = await openTestDatabase()
  console = await startTestConsole(database)
})
afterAll(async () => {
  await console?.stop()
  await database.discard()
})
beforeEach(async () => {
  const { store } = database
  // Deliveries first, in the feeder's own order: it may be at work still.
  await store.durable.query(
    'TRUNCATE deliveries, attempts, destinations, sources, connections, events, event_content, replays',
  )
  source = await addSource(store, { name: 'shop' })
  crm = await addDestination(store, { name: 'crm' })
  chat = await addDestination(store, { name: 'chat' })
  toCrm = await addConnection(store, source, crm, { name: 'shop-crm' })
  toChat = await addConnection(store, source, chat, { name: 'shop-chat', filter: { 'body.total': { $gt: 100 } } })
})

/** An accepted event that was routed to crm only. */
async function routedEvent(overrides: Partial<NewEvent> = {}): Promise<EventId> {
  const event = newEvent(source, {
    body: Buffer.from('{"total":7}'),
    headers: '[["Content-Type","application/json"]]',
    ...overrides,
  })
  await acceptEvents(database.store.durable, [event], 600_000)
  const delivery = {
    id: deriveDeliveryId(event.id, toCrm),
    eventId: event.id,
    connectionId: toCrm,
    connectionVersion: 1,
    destinationId: crm,
    orderKey: null,
    delayMs: 0,
    maxAgeMs: 3_600_000,
    traceparent: null,
  }
  await routeEvents(
    database.store.fast,
    await readConfigVersion(database.store.fast),
    [{ ...(await readRouted(database.store, event.id)), reasons: null, deliveries: [delivery] }],
    600_000,
    true,
  )
  return event.id
}

async function setFilter(
  id: ConnectionId,
  name: string,
  destinationId: DestinationId,
  filter: Record<string, unknown>,
): Promise<void> {
  const spec = connectionSpec.parse({ name, source: 'shop', destination: 'any', filter })
  await changeConfig(database.store.durable, (change) =>
    putConnection(change, { id, spec, managedBy: 'test', sourceId: source, destinationId }),
  )
}

async function deliveriesInStore(event: EventId) {
  const { rows } = await database.store.fast.query<{
    id: string
    state: string
    seq: string
    replay_of: string | null
    destination_id: string
    traceparent: string | null
    connection_version: number
  }>({
    text: 'SELECT id, state, seq, replay_of, destination_id, traceparent, connection_version FROM deliveries WHERE event_id = $1 ORDER BY seq, id',
    values: [event],
  })
  return rows
}

function madeBy(answer: Answer): string[] {
  return (answer.json['deliveries'] as { id: string }[]).map(({ id }) => id)
}

const keyed = (key: string) => ({ 'Idempotency-Key': key })

describe('a replay', () => {
  test('makes new deliveries of an old event and leaves the old ones alone', async () => {
    const event = await routedEvent()
    const [before] = await deliveriesInStore(event)
    const answer = await console.post(`/v1/events/${event}/replay`)
    expect(answer.status, answer.text).toBe(202)
    expect(answer.json).toMatchObject({
      event,
      deliveries: [{ connection: { id: toCrm, name: 'shop-crm' }, destination: { id: crm } }],
    })
    expect(answer.json['notMatched']).toMatchObject([
      {
        connection: 'shop-chat',
        why: 'filter',
        reason: { path: 'body.total', operator: '$gt', expected: 100, actual: 7 },
      },
    ])
    const after = await deliveriesInStore(event)
    expect(after).toHaveLength(2)
    expect(after[0]).toMatchObject({ ...before, state: after[0]?.state })
    expect(after[1]).toMatchObject({ id: madeBy(answer)[0], replay_of: event })
    expect(Number(after[1]?.seq)).toBeGreaterThan(Number(before?.seq))
    expect(Math.abs(timeOfId(after[1]?.id ?? '') - Date.now())).toBeLessThan(60_000)
  })

  test('is routed by the rules of today, not by those of the day it came', async () => {
    const event = await routedEvent()
    await setFilter(toChat, 'shop-chat', chat, { 'body.total': { $lt: 100 } })
    await setFilter(toCrm, 'shop-crm', crm, { 'body.total': { $gt: 100 } })
    const answer = await console.post(`/v1/events/${event}/replay`)
    expect(answer.json).toMatchObject({
      deliveries: [{ connection: { name: 'shop-chat' } }],
      notMatched: [{ connection: 'shop-crm' }],
    })
    const made = (await deliveriesInStore(event)).at(-1)
    expect(made).toMatchObject({ destination_id: chat, connection_version: 2 })
  })

  test('that nothing matches makes no delivery and says why for each connection', async () => {
    const event = await routedEvent()
    await changeConfig(database.store.durable, (change) => remove(change, 'connection', toCrm))
    const answer = await console.post(`/v1/events/${event}/replay`)
    expect(answer).toMatchObject({ status: 202, json: { deliveries: [], notMatched: [{ connection: 'shop-chat' }] } })
    expect(await deliveriesInStore(event)).toHaveLength(1)
  })

  test('quotes values that hold NUL, and so can the answer to a repeated key', async () => {
    const event = await routedEvent({ body: Buffer.from('{"total":"a\\u0000b"}') })
    const answers = [
      await console.post(`/v1/events/${event}/replay`, undefined, keyed('nul')),
      await console.post(`/v1/events/${event}/replay`, undefined, keyed('nul')),
    ]
    for (const { json } of answers) expect(json['notMatched']).toMatchObject([{ reason: { actual: 'a\u0000b' } }])
  })

  test('goes over the named connections only, when some are named', async () => {
    await setFilter(toChat, 'shop-chat', chat, {})
    const event = await routedEvent()
    const answer = await console.post(`/v1/events/${event}/replay`, { connections: ['shop-chat'] })
    expect(answer.json).toMatchObject({ deliveries: [{ connection: { name: 'shop-chat' } }], notMatched: [] })
    expect(await console.post(`/v1/events/${event}/replay`, { connections: ['shop-chat', 'desk-chat'] })).toMatchObject(
      { status: 422, json: { code: 'connection_unknown', detail: expect.stringContaining('desk-chat') } },
    )
    expect(await deliveriesInStore(event)).toHaveLength(2)
  })

  test('keeps the trace of the sender’s request', async () => {
    const trace = 'c'.repeat(32)
    const event = await routedEvent({ traceparent: `00-${trace}-${'d'.repeat(16)}-01` })
    await console.post(`/v1/events/${event}/replay`)
    expect((await deliveriesInStore(event)).at(-1)?.traceparent).toMatch(new RegExp(`^00-${trace}-`))
  })

  test('is fed to its destination at once', async () => {
    const event = await routedEvent()
    const [id] = madeBy(await console.post(`/v1/events/${event}/replay`))
    await until(
      async () => (await deliveriesInStore(event)).find((delivery) => delivery.id === id)?.state === 'queued',
      { what: 'the replay to be queued' },
    )
  })

  test('is found among its event’s deliveries, in the event and in the list', async () => {
    const event = await routedEvent()
    await console.post('/v1/destinations/crm/pause')
    const [id] = madeBy(await console.post(`/v1/events/${event}/replay`))
    const expected = [
      { id, replayOf: event, held: true },
      { id: deriveDeliveryId(event, toCrm), replayOf: null },
    ]
    expect((await console.get(`/v1/events/${event}`)).json['deliveries']).toMatchObject(expected)
    expect((await console.get(`/v1/deliveries?event=${event}`)).data).toMatchObject(expected)
  })

  test('of an event that is not routed yet is refused, and so is one of no event', async () => {
    const event = newEvent(source)
    await acceptEvents(database.store.durable, [event], 600_000)
    expect(await console.post(`/v1/events/${event.id}/replay`)).toMatchObject({
      status: 409,
      json: { code: 'event_not_routed' },
    })
    expect(await console.post('/v1/events/evt_00000000000000000000000000/replay')).toMatchObject({
      status: 404,
      json: { code: 'event_unknown' },
    })
  })

  test('of an unroutable event routes it', async () => {
    const event = newEvent(source)
    await acceptEvents(database.store.durable, [event], 600_000)
    await database.store.durable.query(`UPDATE events SET state = 'unroutable', due_at = NULL`)
    expect(await console.post(`/v1/events/${event.id}/replay`)).toMatchObject({
      status: 202,
      json: { deliveries: [{ connection: { name: 'shop-crm' } }] },
    })
  })
})

describe('an Idempotency-Key', () => {
  test('sent twenty times at once makes one set of deliveries, and all get its answer', async () => {
    await setFilter(toChat, 'shop-chat', chat, {})
    const event = await routedEvent()
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => console.post(`/v1/events/${event}/replay`, undefined, keyed('once'))),
    )
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([202]))
    expect(new Set(answers.map(({ text }) => text)).size).toBe(1)
    expect(answers.filter(({ headers }) => headers.get('idempotent-replayed') === null)).toHaveLength(1)
    expect(await deliveriesInStore(event)).toHaveLength(3)
    expect(madeBy(answers[0] as Answer).toSorted()).toEqual(
      (await deliveriesInStore(event))
        .slice(1)
        .map(({ id }) => id)
        .toSorted(),
    )
  })

  test('gets its first answer again after the rules have changed', async () => {
    const event = await routedEvent()
    const first = await console.post(`/v1/events/${event}/replay`, undefined, keyed('stable'))
    await changeConfig(database.store.durable, (change) => remove(change, 'connection', toCrm))
    const again = await console.post(`/v1/events/${event}/replay`, undefined, keyed('stable'))
    expect(again.text).toBe(first.text)
    expect(again.headers.get('idempotent-replayed')).toBe('true')
    expect(await deliveriesInStore(event)).toHaveLength(2)
  })

  test('of its own each time, or none, replays each time', async () => {
    const event = await routedEvent()
    const answers = [
      await console.post(`/v1/events/${event}/replay`, undefined, keyed('a')),
      await console.post(`/v1/events/${event}/replay`, undefined, keyed('b')),
      await console.post(`/v1/events/${event}/replay`),
      await console.post(`/v1/events/${event}/replay`),
    ]
    expect(new Set(answers.flatMap(madeBy)).size).toBe(4)
    expect(await deliveriesInStore(event)).toHaveLength(5)
  })

  test('that another request bore is refused', async () => {
    const [event, other] = [await routedEvent(), await routedEvent()]
    await console.post(`/v1/events/${event}/replay`, undefined, keyed('taken'))
    const answers = [
      await console.post(`/v1/events/${other}/replay`, undefined, keyed('taken')),
      await console.post(`/v1/events/${event}/replay`, { connections: ['shop-crm'] }, keyed('taken')),
      await console.post(`/v1/deliveries/${deriveDeliveryId(event, toCrm)}/retry`, undefined, keyed('taken')),
    ]
    for (const answer of answers)
      expect(answer).toMatchObject({ status: 422, json: { code: 'idempotency_key_reused' } })
    expect(await deliveriesInStore(other)).toHaveLength(1)
  })

  test.each(['', 'with space', 'x'.repeat(201)])('%j is none', async (key) => {
    const event = await routedEvent()
    expect(await console.post(`/v1/events/${event}/replay`, undefined, keyed(key))).toMatchObject({
      status: 400,
      json: { code: 'idempotency_key_invalid' },
    })
  })
})

describe('the replay transaction', () => {
  test('writes nothing when the configuration is newer than the one that decided', async () => {
    const event = await routedEvent()
    const version = await readConfigVersion(database.store.durable)
    await setFilter(toChat, 'shop-chat', chat, {})
    const replay = {
      key: 'late',
      eventId: event,
      configVersion: version,
      result: '{}',
      deliveries: [
        {
          id: deriveDeliveryId(event, toCrm, { key: 'late', nowMs: Date.now() }),
          eventId: event,
          connectionId: toCrm,
          connectionVersion: 1,
          destinationId: crm,
          orderKey: null,
          delayMs: 0,
          maxAgeMs: 1_000,
          traceparent: null,
        },
      ],
    }
    expect(await replayEvent(database.store.durable, replay)).toEqual({ kind: 'config_changed' })
    expect(await deliveriesInStore(event)).toHaveLength(1)
    expect(await replayEvent(database.store.durable, { ...replay, configVersion: version + 1 })).toEqual({
      kind: 'replayed',
    })
    expect(await replayEvent(database.store.durable, { ...replay, configVersion: version + 1 })).toEqual({
      kind: 'key_known',
    })
    expect(await deliveriesInStore(event)).toHaveLength(2)
  })
})

test('replays meet changes of the configuration: each is routed by one version, none is lost', async () => {
  const event = await routedEvent()
  let done = false
  const changing = (async () => {
    for (let i = 0; !done; i++)
      await setFilter(toChat, 'shop-chat', chat, i % 2 === 0 ? {} : { 'body.total': { $gt: 100 } })
  })()
  const answers = await Promise.all(Array.from({ length: 12 }, () => console.post(`/v1/events/${event}/replay`)))
  done = true
  await changing
  for (const answer of answers) {
    expect([202, 503]).toContain(answer.status)
    if (answer.status === 503) expect(answer.json['code']).toBe('config_unsettled')
  }
  const made = answers.filter(({ status }) => status === 202).flatMap(madeBy)
  expect(await deliveriesInStore(event)).toHaveLength(1 + made.length)
})

describe('a body that is not what is expected', () => {
  const replayAs = (event: EventId, body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string>) =>
    console.request(`/v1/events/${event}/replay`, {
      method: 'POST',
      body,
      headers: { Authorization: 'Bearer a-token-for-tests-only', ...headers },
    })

  test.each([
    ['{"connections":["shop-crm"]}', 'application/x-www-form-urlencoded', 415, 'content_type_unknown'],
    ['{"connections":["shop-crm"]}', 'text/plain', 415, 'content_type_unknown'],
    ['{"connections":', 'application/json', 400, 'body_invalid'],
    ['[]', 'application/json', 400, 'body_invalid'],
    ['{"connections":"shop-crm"}', 'application/json', 400, 'body_invalid'],
    ['{"connections":[]}', 'application/json', 400, 'body_invalid'],
    ['{"conections":["shop-crm"]}', 'application/json', 400, 'body_invalid'],
    [`{"connections":["${'x'.repeat(70_000)}"]}`, 'application/json', 413, 'body_too_large'],
  ])('replays nothing: %.40s as %s is a %d', async (body, type, status, code) => {
    const event = await routedEvent()
    const answer = await replayAs(event, body, { 'Content-Type': type })
    expect(answer).toMatchObject({ status, json: { code } })
    expect(answer.headers.get('content-type')).toBe('application/problem+json')
    expect(await deliveriesInStore(event)).toHaveLength(1)
  })

  test('compressed is a 415', async () => {
    const event = await routedEvent()
    expect(
      (await replayAs(event, '{}', { 'Content-Type': 'application/json', 'Content-Encoding': 'gzip' })).status,
    ).toBe(415)
  })
})
