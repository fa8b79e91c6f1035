import { createHash, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  deriveDeliveryId,
  lowestIdAt,
  newId,
  type ConnectionId,
  type DeliveryId,
  type DestinationId,
  type EventId,
  type SourceId,
} from '@tenterhook/schemas/ids'
import { acceptEvents, type NewEvent } from '@tenterhook/store/accept'
import { readConfigVersion } from '@tenterhook/store/config'
import { changeConfig, remove } from '@tenterhook/store/config-change'
import { pauseConnection, resumeConnection } from '@tenterhook/store/connection-state'
import { pauseDestination, resumeDestination } from '@tenterhook/store/destination-state'
import { keepDuplicate } from '@tenterhook/store/duplicates'
import { feed } from '@tenterhook/store/feed'
import { destinationsNotHealthy } from '@tenterhook/store/health'
import { lease } from '@tenterhook/store/lease'
import { recordRejections } from '@tenterhook/store/rejections'
import { recordResults, type AttemptResult } from '@tenterhook/store/results'
import { routeEvents } from '@tenterhook/store/route'
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
let shop: SourceId
let desk: SourceId
let crm: DestinationId
let chat: DestinationId
let shopCrm: ConnectionId
let deskChat: ConnectionId

const secrets = [
  'whsec_c2hvcC1zZWNyZXQtb2YtdGVzdHM=',
  'bearer-secret-of-crm',
  'whsec_c2lnbmluZy1zZWNyZXQtb2YtdGVzdHM=',
  'chat-password',
  'verify-me-secret',
  'app-secret-of-meta',
]

beforeAll(async () => {
  database = await openTestDatabase()
  const { store } = database
  shop = await addSource(store, {
    name: 'shop',
    verification: { scheme: 'standard-webhooks', secret: secrets[0] ?? '' },
  })
  desk = await addSource(store, {
    name: 'desk',
    verification: { scheme: 'meta', secret: secrets[5] ?? '', verifyToken: secrets[4] ?? '' },
  })
  crm = await addDestination(store, {
    name: 'crm',
    auth: { kind: 'bearer', token: secrets[1] ?? '' },
    signing: { secrets: [secrets[2] ?? ''] },
  })
  chat = await addDestination(store, {
    name: 'chat',
    auth: { kind: 'basic', username: 'bot', password: secrets[3] ?? '' },
  })
  shopCrm = await addConnection(store, shop, crm, { name: 'shop-crm' })
  deskChat = await addConnection(store, desk, chat, { name: 'desk-chat' })
  console = await startTestConsole(database)
})
afterAll(async () => {
  await console?.stop()
  await database.discard()
})

async function accept(sourceId: SourceId, overrides: Partial<NewEvent> = {}): Promise<EventId> {
  const event = newEvent(sourceId, overrides)
  await acceptEvents(database.store.durable, [event], 600_000)
  return event.id
}

/** The event's delivery over its source's connection. */
async function route(
  eventId: EventId,
  over: 'shop-crm' | 'desk-chat',
  reasons: string | null = null,
): Promise<DeliveryId> {
  const [connectionId, destinationId] = over === 'shop-crm' ? [shopCrm, crm] : [deskChat, chat]
  const id = deriveDeliveryId(eventId, connectionId)
  const delivery = {
    id,
    eventId,
    connectionId,
    connectionVersion: 1,
    destinationId,
    orderKey: null,
    delayMs: 0,
    maxAgeMs: 3_600_000,
    traceparent: null,
  }
  await routeEvents(
    database.store.fast,
    await readConfigVersion(database.store.fast),
    [{ ...(await readRouted(database.store, eventId)), reasons, deliveries: [delivery] }],
    600_000,
    true,
  )
  return id
}

/** Leases the delivery as a dispatcher does and records what an attempt of it came to. */
async function attempt(
  id: DeliveryId,
  next: AttemptResult['next'],
  overrides: Partial<AttemptResult['attempt']> = {},
): Promise<void> {
  const token = randomUUID()
  await feed(
    database.store.fast,
    [crm, chat].map((one) => ({ id: one, max: 100 })),
    600_000,
  )
  const { rows } = await database.store.fast.query<{ generation: number }>(
    `SELECT generation FROM deliveries WHERE id = '${id}'`,
  )
  const {
    leased: [leased],
  } = await lease(database.store.fast, [{ id, generation: rows[0]?.generation ?? 0, token }])
  if (!leased) throw new Error(`${id} could not be leased`)
  const outcome = next.kind === 'delivered' ? 'delivered' : 'rejected'
  const made = {
    number: leased.attempt,
    destinationVersion: 1,
    leasedAt: leased.leasedAt,
    startedAtMs: Date.now(),
    outcome,
    status: 200,
    code: null,
    detail: null,
    address: '127.0.0.1',
    responseHeaders: null,
    responseBody: null,
    responseTruncated: false,
    timings: '{"total":12}',
    ...overrides,
  } as const
  await recordResults(database.store.fast, [{ id, token, next, attempt: made }])
}

/** What the protocol keeps on a destination's row, as a test wants it. */
async function setState(id: DestinationId, state: string): Promise<void> {
  await database.store.durable.query({ text: `UPDATE destinations SET ${state} WHERE id = $1`, values: [id] })
}

const idsOf = ({ data }: Answer) => data.map(({ id }) => id)

/** All pages of a list, and how many there were. */
async function walk(
  path: string,
  between: () => Promise<unknown> = async () => {},
): Promise<{ ids: unknown[]; pages: number }> {
  const ids: unknown[] = []
  for (let cursor = '', pages = 1; ; pages++) {
    const answer = await console.get(path + cursor)
    expect(answer.status, answer.text).toBe(200)
    ids.push(...idsOf(answer))
    const { next } = answer.json
    if (typeof next !== 'string') return { ids, pages }
    cursor = `&cursor=${next}`
    await between()
  }
}

describe('lists', () => {
  test('run page by page from the newest, each row once, while rows are inserted', async () => {
    const type = 'paged'
    const events: EventId[] = []
    for (let i = 0; i < 23; i++) events.push(await accept(shop, { type, id: newId('evt', Date.now() + i) }))
    const { ids, pages } = await walk(`/v1/events?limit=5&type=${type}`, () =>
      accept(shop, { type, id: newId('evt', Date.now() + 1_000) }),
    )
    expect(pages).toBe(5)
    expect(ids).toEqual(events.toReversed())
  })

  test('of deliveries, attempts and rejections do so too', async () => {
    const deliveries: DeliveryId[] = []
    for (let i = 0; i < 7; i++)
      deliveries.push(await route(await accept(desk, { id: newId('evt', Date.now() + i) }), 'desk-chat'))
    for (const id of deliveries) {
      await attempt(id, { kind: 'retry', delayMs: 0 })
      await attempt(id, { kind: 'delivered', heals: false })
    }
    const newest = deliveries.toReversed()
    expect(
      (
        await walk('/v1/deliveries?limit=3&connection=desk-chat', async () =>
          route(await accept(desk, { id: newId('evt', Date.now() + 1_000) }), 'desk-chat'),
        )
      ).ids,
    ).toEqual(newest)
    const attempts = await walk('/v1/attempts?limit=3')
    expect(attempts.pages).toBe(5)
    expect(attempts.ids.map((id) => String(id).split('.')[0])).toEqual(newest.flatMap((id) => [id, id]))
    expect(new Set(attempts.ids).size).toBe(14)

    const rejections = Array.from({ length: 7 }, (_, i) => ({
      id: newId('rej', Date.now() + i),
      atMs: Date.now(),
      sourceName: 'nope',
      sourceId: null,
      code: 'source_unknown',
      status: 404,
      detail: 'no',
      method: 'POST',
      path: '',
      remoteAddress: null,
      bodyBytes: 0,
      folded: 0,
    }))
    await recordRejections(database.store.fast, rejections)
    expect((await walk('/v1/rejections?limit=3&source=nope')).ids).toEqual(rejections.map(({ id }) => id).toReversed())
  })

  test('end a page that looked far, with what it found and a cursor, in place of a timeout', async () => {
    const atMs = Date.parse('2020-02-02T00:00:00Z')
    const since = '&since=2020-02-02T00:00:00Z&until=2020-02-03T00:00:00Z'
    const rare = await accept(shop, { id: newId('evt', atMs) })
    await database.store.fast.query({
      text: `INSERT INTO events (id, source_id, source_version, state, body_bytes, received_at)
        SELECT $1 || lpad(to_hex(i), 16, '0'), $2, 1, 'routed', 0, now() FROM generate_series(1, 45000) i`,
      values: [lowestIdAt('evt', atMs + 1_000), desk],
    })
    const first = await console.get(`/v1/events?source=shop${since}`)
    expect(first.data).toEqual([])
    expect(first.json['next']).toEqual(expect.any(String))
    expect(await walk(`/v1/events?source=shop${since}`)).toEqual({ ids: [rare], pages: 3 })
    expect(await walk(`/v1/events?source=shop&state=accepted&limit=1${since}`)).toEqual({ ids: [rare], pages: 3 })
  })

  test('hold at most 200 rows, 50 unless asked', async () => {
    expect((await console.get('/v1/events')).data).toHaveLength(50)
    expect((await console.get('/v1/events?limit=200')).data).toHaveLength(200)
    for (const limit of ['0', '201', '-1', '1.5', 'ten', '']) {
      expect(await console.get(`/v1/events?limit=${limit}`), limit).toMatchObject({
        status: 400,
        json: {
          code: 'query_invalid',
          detail: expect.stringContaining('limit: expected a whole number from 1 to 200'),
        },
      })
    }
  })

  test('refuse a parameter they do not know, twice the same one, and a cursor of another list', async () => {
    expect((await console.get('/v1/events?sorce=shop')).json['detail']).toMatch(
      /no parameter sorce; expected limit, cursor, since, until, source, type, state/,
    )
    expect((await console.get('/v1/events?source=shop&source=desk')).status).toBe(400)
    const { next } = (await console.get('/v1/events?limit=1')).json
    for (const cursor of [next, 'x', '', 'AAAA', Buffer.from("dlv_' OR 1=1 --").toString('base64url')]) {
      expect((await console.get(`/v1/deliveries?cursor=${String(cursor)}`)).json['code'], String(cursor)).toBe(
        'cursor_invalid',
      )
    }
  })

  test('never return bodies', async () => {
    const body = Buffer.from('a-body-that-lists-leave-out')
    const delivery = await route(await accept(shop, { body, type: 'bodied' }), 'shop-crm')
    await attempt(delivery, { kind: 'delivered', heals: false }, { responseBody: body })
    for (const list of [
      '/v1/events?type=bodied',
      '/v1/deliveries?destination=crm',
      `/v1/attempts?delivery=${delivery}`,
    ]) {
      const answer = await console.get(list)
      expect(answer.data.length).toBeGreaterThan(0)
      expect(answer.text).not.toContain(body.toString())
      expect(answer.text).not.toContain(body.toString('base64'))
    }
  })
})

describe('filters', () => {
  test('of events: source by name or id, type, state, since, until', async () => {
    const atMs = Date.parse('2021-06-01T12:00:00Z')
    const range = '&since=2021-06-01T00:00:00Z&until=2021-06-02T00:00:00Z'
    const one = await accept(shop, { id: newId('evt', atMs), type: 'order.paid' })
    const two = await accept(desk, { id: newId('evt', atMs + 1_000), type: 'order.paid' })
    const three = await accept(desk, { id: newId('evt', atMs + 2_000), type: 'ticket.new' })
    await route(three, 'desk-chat')
    const find = async (query: string) => idsOf(await console.get(`/v1/events?${query}${range}`))
    expect(await find('')).toEqual([three, two, one])
    expect(await find('source=desk')).toEqual([three, two])
    expect(await find(`source=${shop}`)).toEqual([one])
    expect(await find('type=order.paid')).toEqual([two, one])
    expect(await find('state=routed')).toEqual([three])
    expect(await find('source=desk&type=order.paid&state=accepted')).toEqual([two])
    expect(idsOf(await console.get('/v1/events?since=2021-06-01T12:00:01Z&until=2021-06-01T14:00:02%2B02:00'))).toEqual(
      [two],
    )
    expect((await console.get('/v1/events?source=shops')).json).toMatchObject({ status: 400, code: 'filter_unknown' })
    expect((await console.get('/v1/events?state=lost')).json['detail']).toBe(
      'state: expected one of accepted, routed, unroutable',
    )
    expect((await console.get('/v1/events?since=yesterday')).json['detail']).toMatch(/^since: expected a time such as/)
  })

  test('of deliveries: event, destination, connection, state', async () => {
    const atMs = Date.parse('2022-06-01T12:00:00Z')
    const range = '&since=2022-06-01T00:00:00Z&until=2022-06-02T00:00:00Z'
    const [dead, waiting, sent] = [
      await accept(shop, { id: newId('evt', atMs) }),
      await accept(shop, { id: newId('evt', atMs + 1) }),
      await accept(desk, { id: newId('evt', atMs + 2) }),
    ]
    const [deadOne, waitingOne, sentOne] = [
      await route(dead, 'shop-crm'),
      await route(waiting, 'shop-crm'),
      await route(sent, 'desk-chat'),
    ]
    await attempt(deadOne, { kind: 'dead', reason: 'cannot_succeed' })
    await attempt(waitingOne, { kind: 'retry', delayMs: 60_000 })
    await attempt(sentOne, { kind: 'delivered', heals: false })
    const find = async (query: string) => idsOf(await console.get(`/v1/deliveries?${query}${range}`))
    expect(await find('')).toEqual([sentOne, waitingOne, deadOne])
    expect(await find(`event=${dead}`)).toEqual([deadOne])
    expect(await find('destination=crm')).toEqual([waitingOne, deadOne])
    expect(await find(`destination=${chat}`)).toEqual([sentOne])
    expect(await find('connection=desk-chat')).toEqual([sentOne])
    expect(await find(`connection=${shopCrm}`)).toEqual([waitingOne, deadOne])
    expect(await find('state=dead')).toEqual([deadOne])
    expect(await find('state=retrying')).toEqual([waitingOne])
    expect(await find('state=delivered')).toEqual([sentOne])
    expect(await find('state=dead&destination=chat')).toEqual([])
    expect(await find('state=held')).toEqual([])
    expect((await console.get(`/v1/deliveries/${deadOne}`)).json).toMatchObject({
      state: 'dead',
      deadReason: 'cannot_succeed',
      attempts: 1,
      failures: 1,
      dueAt: null,
      held: false,
    })
  })

  test('of deliveries: held, with why, while their destination or connection is paused or the breaker is open', async () => {
    const { store } = database
    const [event, finished] = [await accept(shop), await accept(shop)]
    const finishedOne = await route(finished, 'shop-crm')
    await attempt(finishedOne, { kind: 'delivered', heals: false })
    await pauseDestination(store.durable, crm, 'the people of crm asked for it')
    const delivery = await route(event, 'shop-crm')
    const held = async () => (await console.get(`/v1/deliveries?state=held&event=${event}`)).data
    expect(await held()).toMatchObject([
      {
        id: delivery,
        state: 'pending',
        held: true,
        heldBy: { kind: 'destination_paused', reason: 'the people of crm asked for it' },
      },
    ])
    expect((await console.get(`/v1/deliveries/${finishedOne}`)).json).toMatchObject({ held: false, heldBy: null })
    await resumeDestination(store.durable, crm)
    expect(await held()).toEqual([])

    await pauseConnection(store.durable, shopCrm, 'too many at once')
    expect(await held()).toMatchObject([
      { id: delivery, held: true, heldBy: { kind: 'connection_paused', reason: 'too many at once' } },
    ])
    // The longer reason first: resuming the connection alone would move nothing.
    await pauseDestination(store.durable, crm, 'closed for today')
    expect(await held()).toMatchObject([{ heldBy: { kind: 'destination_paused', reason: 'closed for today' } }])
    await resumeDestination(store.durable, crm)
    await resumeConnection(store.durable, shopCrm)
    expect(await held()).toEqual([])

    await setState(crm, `closed_until = clock() + interval '60 s'`)
    expect(await held()).toMatchObject([
      { id: delivery, held: true, heldBy: { kind: 'breaker_open', until: expect.stringMatching(/^20.*Z$/) } },
    ])
    await resumeDestination(store.durable, crm)
    expect(await held()).toEqual([])
  })

  test('of attempts: their delivery, the last first', async () => {
    const delivery = await route(await accept(desk), 'desk-chat')
    await attempt(
      delivery,
      { kind: 'retry', delayMs: 0 },
      { outcome: 'unreachable', status: null, code: 'connect_refused' },
    )
    await attempt(delivery, { kind: 'delivered', heals: false })
    const { data } = await console.get(`/v1/attempts?delivery=${delivery}`)
    expect(data).toMatchObject([
      { deliveryId: delivery, number: 2, outcome: 'delivered' },
      { deliveryId: delivery, number: 1, outcome: 'unreachable', code: 'connect_refused', timings: { total: 12 } },
    ])
    expect((await console.get(`/v1/deliveries/${delivery}`)).json['history']).toEqual(data)
  })

  test('of rejections: source by name or id, code', async () => {
    const rejection = (overrides: object) => ({
      id: newId('rej', Date.now()),
      atMs: Date.now(),
      sourceName: 'shop',
      sourceId: shop,
      code: 'signature_wrong',
      status: 401,
      detail: 'no',
      method: 'POST',
      path: '',
      remoteAddress: null,
      bodyBytes: 0,
      folded: 0,
      ...overrides,
    })
    const made = [
      rejection({}),
      rejection({ code: 'body_too_large', status: 413 }),
      rejection({ sourceName: 'shpo', sourceId: null, code: 'source_unknown' }),
    ]
    await recordRejections(database.store.fast, made)
    const find = async (query: string) => new Set(idsOf(await console.get(`/v1/rejections?${query}`)))
    const ids = made.map(({ id }) => id)
    expect(await find('source=shop')).toEqual(new Set(ids.slice(0, 2)))
    expect(await find(`source=${shop}&code=body_too_large`)).toEqual(new Set([ids[1]]))
    expect(await find('source=shpo')).toEqual(new Set([ids[2]]))
    expect((await console.get(`/v1/rejections/${ids[0] ?? ''}`)).json).toMatchObject({
      sourceName: 'shop',
      code: 'signature_wrong',
      status: 401,
    })
  })

  test('reach back to what bore a name before', async () => {
    const { store } = database
    const old = await addSource(store, { name: 'renewed' })
    const event = await accept(old)
    await changeConfig(store.durable, (change) => remove(change, 'source', old))
    const current = await addSource(store, { name: 'renewed' })
    expect(idsOf(await console.get('/v1/events?source=renewed'))).toEqual([event])
    expect((await console.get('/v1/sources/renewed')).json['id']).toBe(current)
    expect((await console.get(`/v1/sources/${old}`)).json).toMatchObject({ id: old, deletedAt: expect.any(String) })
    expect(idsOf(await console.get('/v1/sources'))).not.toContain(old)
  })
})

describe('a destination’s health', () => {
  const healthOf = async () => (await console.get('/v1/destinations/pos')).json['health']
  const healthy = {
    state: 'closed',
    waitsUntil: null,
    failingSince: null,
    failuresInRow: 0,
    slowUntil: null,
    lane: 'normal',
    window: 256,
    admitted: 0,
    waiting: 0,
    moreWaiting: false,
  }
  let pos: DestinationId
  beforeAll(async () => {
    pos = await addDestination(database.store, { name: 'pos' })
  })

  test('is its breaker, why it is as it is, its lane and its window', async () => {
    expect(await healthOf()).toEqual(healthy)
    await setState(
      pos,
      `failing_since = clock(), failures_in_row = 12, trips = 1, closed_until = clock() + interval '9 s'`,
    )
    expect(await healthOf()).toMatchObject({
      state: 'open',
      waitsUntil: expect.stringMatching(/^20.*Z$/),
      failingSince: expect.stringMatching(/^20.*Z$/),
      failuresInRow: 12,
      lane: 'quarantine',
    })
    await setState(pos, `closed_until = clock() - interval '1 ms'`)
    expect(await healthOf()).toMatchObject({ state: 'half_open', waitsUntil: null, window: 1, lane: 'quarantine' })
    expect((await console.post('/v1/destinations/pos/resume')).json['health']).toEqual(healthy)
  })

  test('is open while it asked for quiet, and closed right after', async () => {
    await setState(pos, `closed_until = clock() + interval '9 s'`)
    expect(await healthOf()).toMatchObject({ state: 'open', failuresInRow: 0, lane: 'normal' })
    await setState(pos, `closed_until = clock() - interval '1 ms'`)
    expect(await healthOf()).toEqual(healthy)
  })

  test('says that it is slow, and until when', async () => {
    await setState(pos, `slow_until = clock() + interval '9 s'`)
    expect(await healthOf()).toMatchObject({
      state: 'closed',
      slowUntil: expect.stringMatching(/^20.*Z$/),
      lane: 'quarantine',
    })
    await setState(pos, `slow_until = '-infinity'`)
  })

  test('counts what is admitted, and what waits: up to a thousand, fewer of many', async () => {
    await database.store.durable.query({
      text: `INSERT INTO deliveries (id, event_id, connection_id, connection_version, destination_id, source_id, seq, state, due_at, wake_at, admitted, expires_at)
        SELECT $1 || lpad(i::text, 16, '0'), 'evt_0', $2, 1, $3, $4, i, q.state, clock() + interval '1 day',
          CASE WHEN q.state = 'queued' THEN clock() + interval '1 day' END, q.state = 'queued', clock() + interval '2 days'
        FROM generate_series(1, 1203) i, LATERAL (SELECT CASE WHEN i <= 3 THEN 'queued' ELSE 'pending' END AS state) q`,
      values: [lowestIdAt('dlv', Date.parse('2023-01-01T00:00:00Z')), shopCrm, pos, shop],
    })
    expect(await healthOf()).toMatchObject({ admitted: 3, waiting: 1_000, moreWaiting: true })
    const page = await console.get('/v1/destinations?limit=200')
    expect(page.data.find(({ name }) => name === 'pos')).toMatchObject({ health: { waiting: 100, moreWaiting: true } })
    await database.store.durable.query({ text: 'DELETE FROM deliveries WHERE destination_id = $1', values: [pos] })
  })

  test('of all that are not healthy is read at once', async () => {
    const { durable, fast } = database.store
    const before = await destinationsNotHealthy(fast, 100)
    expect(before).toEqual([])
    await setState(pos, `trips = 1`)
    await setState(crm, `slow_until = clock() + interval '9 s'`)
    await pauseDestination(durable, chat, 'down')
    expect(await destinationsNotHealthy(fast, 100)).toEqual([
      { id: crm, name: 'crm', state: 'slow' },
      { id: chat, name: 'chat', state: 'paused' },
      { id: pos, name: 'pos', state: 'half_open' },
    ])
    expect(await destinationsNotHealthy(fast, 2)).toHaveLength(2)
    await setState(pos, `closed_until = clock() + interval '9 s'`)
    expect((await destinationsNotHealthy(fast, 100)).at(-1)).toMatchObject({ state: 'open' })
    for (const id of [crm, chat, pos]) {
      await resumeDestination(durable, id)
      await setState(id, `slow_until = '-infinity'`)
    }
  })
})

describe('an event', () => {
  const headers = [
    ['Content-Type', 'application/json'],
    ['X-Twice', '1'],
    ['x-twice', '2'],
  ]

  test('is shown with what was received, its deliveries, its duplicates and why connections did not match', async () => {
    const body = Buffer.from('{"name":"Zoë"}')
    const event = await accept(shop, {
      body,
      type: 'order.paid',
      path: '/a/b',
      query: 'x=1&x=2',
      headers: JSON.stringify(headers),
      remoteAddress: '192.0.2.7',
      traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-00`,
    })
    const notMatched = [
      {
        connection: 'shop-chat',
        why: 'filter',
        reason: { path: 'body.name', operator: '$eq', expected: 'Zoe', actual: 'Zo\u0000' },
      },
    ]
    const delivery = await route(event, 'shop-crm', JSON.stringify(notMatched))
    await attempt(delivery, { kind: 'delivered', heals: false })
    const [equal, differing] = [newId('dup', Date.now()), newId('dup', Date.now() + 1)]
    await keepDuplicate(database.store.durable, equal, event, newEvent(shop), false)
    await keepDuplicate(
      database.store.durable,
      differing,
      event,
      newEvent(shop, { body: Buffer.from('other'), receivedAtMs: Date.now() + 1 }),
      true,
    )
    expect((await console.get(`/v1/events/${event}`)).json).toMatchObject({
      id: event,
      source: { id: shop, name: 'shop' },
      type: 'order.paid',
      state: 'routed',
      method: 'POST',
      path: '/a/b',
      query: 'x=1&x=2',
      headers,
      bodyBytes: body.length,
      bodyBase64: body.toString('base64'),
      bodyText: body.toString(),
      remoteAddress: '192.0.2.7',
      traceId: 'a'.repeat(32),
      deliveries: [{ id: delivery, state: 'delivered', destination: { name: 'crm' } }],
      duplicates: [
        { id: equal, differs: false, bodyBytes: null },
        { id: differing, differs: true, bodyBytes: 5, promotedAs: null },
      ],
      notMatched,
    })
    expect((await console.get(`/v1/duplicates/${differing}`)).json).toMatchObject({
      eventId: event,
      differs: true,
      bodyText: 'other',
      headers: [],
    })
  })

  test('that is not text is shown as base64, and downloaded byte for byte', async () => {
    const body = Buffer.from(Array.from({ length: 5_000 }, (_, i) => (i * 7) % 256))
    const event = await accept(shop, { body })
    expect((await console.get(`/v1/events/${event}`)).json).toMatchObject({
      bodyText: null,
      bodyBase64: body.toString('base64'),
    })
    const response = await fetch(`${console.url}/v1/events/${event}/body`, {
      headers: { Authorization: 'Bearer a-token-for-tests-only' },
    })
    expect(Buffer.from(await response.arrayBuffer()).equals(body)).toBe(true)
    expect(response.headers.get('content-type')).toBe('application/octet-stream')
    expect(response.headers.get('x-content-type-options')).toBe('nosniff')
    expect(response.headers.get('content-disposition')).toBe(`attachment; filename="${event}.bin"`)
  })

  test('with an empty body has one: of no bytes', async () => {
    const event = await accept(shop, { body: Buffer.alloc(0) })
    expect((await console.get(`/v1/events/${event}`)).json).toMatchObject({ bodyText: '', bodyBase64: '' })
    expect(await console.get(`/v1/events/${event}/body`)).toMatchObject({ status: 200, text: '' })
  })

  test('of more than a megabyte is shown without its body, which can be downloaded', async () => {
    const body = Buffer.alloc(1_048_577, 'x')
    const event = await accept(shop, { body })
    expect((await console.get(`/v1/events/${event}`)).json).toMatchObject({
      bodyBytes: body.length,
      bodyText: null,
      bodyBase64: null,
    })
    const { text } = await console.get(`/v1/events/${event}/body`)
    expect(createHash('sha256').update(text).digest('hex')).toBe(createHash('sha256').update(body).digest('hex'))
  })
})

test('an attempt is shown with what was answered', async () => {
  const delivery = await route(await accept(desk), 'desk-chat')
  const responseBody = Buffer.from('<b>no</b>')
  await attempt(
    delivery,
    { kind: 'dead', reason: 'cannot_succeed' },
    { status: 400, responseHeaders: '[["Server","x"]]', responseBody, responseTruncated: true },
  )
  const [row] = (await console.get(`/v1/attempts?delivery=${delivery}`)).data
  expect(row).toMatchObject({ responseBytes: 9, responseTruncated: true })
  expect((await console.get(`/v1/attempts/${String(row?.['id'])}`)).json).toMatchObject({
    status: 400,
    outcome: 'rejected',
    responseHeaders: [['Server', 'x']],
    responseBodyText: '<b>no</b>',
    responseBodyBase64: responseBody.toString('base64'),
    address: '127.0.0.1',
  })
})

describe('secrets', () => {
  test('are in no answer, only that they are set', async () => {
    const { data: rejections } = await console.get('/v1/rejections?limit=1')
    const event = await accept(shop)
    const delivery = await route(event, 'shop-crm')
    await attempt(delivery, { kind: 'delivered', heals: false })
    const [made] = (await console.get(`/v1/attempts?delivery=${delivery}`)).data
    const paths = [
      'sources',
      'destinations',
      'connections',
      'events',
      'deliveries',
      'attempts',
      'rejections',
      'sources/shop',
      'sources/desk',
      'destinations/crm',
      'destinations/chat',
      'connections/shop-crm',
      `events/${event}`,
      `deliveries/${delivery}`,
      `attempts/${String(made?.['id'])}`,
      `rejections/${String(rejections[0]?.['id'])}`,
    ]
    for (const path of paths) {
      const answer = await console.get(`/v1/${path}`)
      expect(answer.status, path).toBe(200)
      for (const secret of secrets) expect(answer.text, path).not.toContain(secret)
    }
    const paused = await console.post('/v1/destinations/crm/pause')
    const resumed = await console.post('/v1/destinations/crm/resume')
    for (const secret of secrets) expect(paused.text + resumed.text).not.toContain(secret)
    expect((await console.get('/v1/sources/shop')).json).toMatchObject({
      spec: { verification: { scheme: 'standard-webhooks' } },
      secretsSet: ['secrets.0'],
    })
    expect((await console.get('/v1/sources/desk')).json['secretsSet']).toEqual(['secrets.0', 'verifyToken'])
    expect((await console.get('/v1/destinations/crm')).json['secretsSet']).toEqual(['auth', 'signing.0'])
    expect((await console.get('/v1/destinations/chat')).json).toMatchObject({
      spec: { auth: { kind: 'basic', username: 'bot' } },
      secretsSet: ['auth'],
    })
  })
})

describe('what is not there', () => {
  test.each([
    '/v1/events/evt_00000000000000000000000000',
    '/v1/events/nonsense',
    "/v1/events/'%20OR%201=1",
    '/v1/events/%00',
    '/v1/deliveries/x',
    '/v1/attempts/x',
    '/v1/rejections/x',
    '/v1/duplicates/x',
    '/v1/sources/nobody',
    '/v1/destinations/%2e%2e',
    '/v1/connections/NO',
    '/v1/events/x/body',
    '/v1/nothing',
    '/nowhere',
  ])('is a 404 in problem+json: %s', async (path) => {
    const answer = await console.get(path)
    expect(answer.status).toBe(404)
    expect(answer.headers.get('content-type')).toBe('application/problem+json')
    expect(answer.json).toMatchObject({
      type: 'about:blank',
      title: 'Not Found',
      status: 404,
      code: expect.any(String),
      detail: expect.any(String),
    })
  })

  test('a path that cannot be decoded is a 400', async () => {
    expect(await console.get('/v1/events/%zz')).toMatchObject({ status: 400, json: { code: 'request_malformed' } })
  })

  test.each([
    ['DELETE', '/v1/events', 'GET, HEAD'],
    ['POST', '/v1/sources/shop', 'GET, HEAD'],
    ['OPTIONS', '/v1/events', 'GET, HEAD'],
    ['GET', '/v1/events/x/replay', 'POST'],
    ['PUT', '/v1/deliveries/x/retry', 'POST'],
  ])('%s %s is a 405 that says what is allowed', async (method, path, allow) => {
    const answer = await console.request(path, { method, headers: { Authorization: 'Bearer a-token-for-tests-only' } })
    expect(answer).toMatchObject({ status: 405, json: { code: 'method_not_allowed' } })
    expect(answer.headers.get('allow')).toBe(allow)
  })
})

describe('Postgres', () => {
  test('that takes too long is a 503, and a hint to ask for less', async () => {
    const client = await database.store.durable.connect()
    try {
      await client.query('BEGIN; LOCK TABLE rejections IN ACCESS EXCLUSIVE MODE')
      const answer = await console.get('/v1/rejections')
      expect(answer).toMatchObject({ status: 503, json: { code: expect.stringMatching(/^store_(slow|unavailable)$/) } })
      expect(answer.headers.get('retry-after')).toBe('2')
    } finally {
      await client.query('ROLLBACK')
      client.release()
    }
    expect((await console.get('/v1/rejections')).status).toBe(200)
  })

  test('that is away is a 503 until it is back, and the console stays', async () => {
    await database.cutOff('tenterhook-console')
    try {
      const answer = await console.get('/v1/events')
      expect(answer).toMatchObject({ status: 503, json: { code: 'store_unavailable' } })
      expect((await console.get('/')).status).toBe(200)
    } finally {
      await database.restore()
    }
    expect((await console.get('/v1/events')).status).toBe(200)
  })
})
