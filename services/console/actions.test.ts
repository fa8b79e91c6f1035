import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  deriveDeliveryId,
  newId,
  type ConnectionId,
  type DeliveryId,
  type DestinationId,
  type EventId,
  type SourceId,
} from '@tenterhook/schemas/ids'
import { connectionSpec } from '@tenterhook/schemas/connection'
import type { DeliveryState } from '@tenterhook/schemas/states'
import { acceptEvents } from '@tenterhook/store/accept'
import { readConfigVersion } from '@tenterhook/store/config'
import { changeConfig, putConnection, remove } from '@tenterhook/store/config-change'
import { cancelDelivery, pauseDestination } from '@tenterhook/store/destination-state'
import { keepDuplicate } from '@tenterhook/store/duplicates'
import { feed } from '@tenterhook/store/feed'
import { lease } from '@tenterhook/store/lease'
import { recordResults, type AttemptResult } from '@tenterhook/store/results'
import { routeEvents } from '@tenterhook/store/route'
import { until } from '../../test/support/poll.ts'
import { addConnection, addDestination, addSource, newEvent, readRouted } from '../../test/support/store.ts'
import { openTestDatabase, startTestConsole, type TestConsole, type TestDatabase } from './console.fixture.ts'

let database: TestDatabase
let console: TestConsole
let source: SourceId
let destination: DestinationId
let connection: ConnectionId
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
    'TRUNCATE deliveries, attempts, destinations, sources, connections, events, event_content, dedupe, duplicates, replays',
  )
  source = await addSource(store, { name: 'shop' })
  destination = await addDestination(store, { name: 'crm' })
  connection = await addConnection(store, source, destination, { name: 'shop-crm', retry: { maxAge: '2h' } })
})

async function acceptedEvent(): Promise<EventId> {
  const event = newEvent(source, { key: randomUUID() })
  await acceptEvents(database.store.durable, [event], 600_000)
  return event.id
}

/** A delivery that waits: its destination is paused until a test wants otherwise. */
async function pendingDelivery(orderKey: string | null = null): Promise<DeliveryId> {
  await pauseDestination(database.store.durable, destination, 'so that nothing moves by itself')
  const eventId = await acceptedEvent()
  const id = deriveDeliveryId(eventId, connection)
  const delivery = {
    id,
    eventId,
    connectionId: connection,
    connectionVersion: 1,
    destinationId: destination,
    orderKey,
    delayMs: 0,
    maxAgeMs: 3_600_000,
    traceparent: null,
  }
  await routeEvents(
    database.store.fast,
    await readConfigVersion(database.store.fast),
    [{ ...(await readRouted(database.store, eventId)), reasons: null, deliveries: [delivery] }],
    600_000,
    true,
  )
  return id
}

/** The same, on its way: queued, or leased when there is a token. */
async function admittedDelivery(token?: string): Promise<DeliveryId> {
  const id = await pendingDelivery()
  await admit(id, token)
  return id
}

/** Opens the destination for a moment. The console's own feeder may be the one that admits. */
async function admit(id: DeliveryId, token?: string): Promise<void> {
  await database.store.durable.query('UPDATE destinations SET paused = false')
  const { generation } = await until(
    async () => {
      await feed(database.store.fast, [{ id: destination, max: 100 }], 600_000)
      const delivery = await stored(id)
      return delivery.state === 'queued' && delivery
    },
    { what: 'the delivery to be queued' },
  )
  if (token !== undefined) await lease(database.store.fast, [{ id, generation, token }])
  await pauseDestination(database.store.durable, destination, 'so that nothing moves by itself')
}

async function finished(next: AttemptResult['next'], token: string = randomUUID()): Promise<DeliveryId> {
  const id = await admittedDelivery(token)
  await record(id, token, next)
  return id
}

async function record(id: DeliveryId, token: string, next: AttemptResult['next']): Promise<void> {
  const outcome = next.kind === 'delivered' ? 'delivered' : 'rejected'
  const attempt = {
    number: 1,
    destinationVersion: 1,
    leasedAt: new Date().toISOString(),
    startedAtMs: Date.now(),
    outcome,
    status: 200,
    code: null,
    detail: null,
    address: null,
    responseHeaders: null,
    responseBody: null,
    responseTruncated: false,
    timings: '{}',
  } as const
  await recordResults(database.store.fast, [{ id, token, next, attempt }])
}

interface StoredDelivery {
  state: DeliveryState
  generation: number
  attempt: number
  failures: number
  lost_leases: number
  due: boolean
  hours_left: number
  dead_reason: string | null
  finished_at: Date | null
  cancel_requested: boolean
}

async function stored(id: DeliveryId): Promise<StoredDelivery> {
  const { rows } = await database.store.fast.query<StoredDelivery>({
    text: `SELECT state, generation, attempt, failures, lost_leases, coalesce(due_at <= clock(), false) AS due, dead_reason, finished_at, cancel_requested,
      round(extract(epoch FROM expires_at - clock()) / 3600)::int AS hours_left FROM deliveries WHERE id = $1`,
    values: [id],
  })
  if (!rows[0]) throw new Error(`there is no ${id}`)
  return rows[0]
}

const keyed = (key: string) => ({ 'Idempotency-Key': key })
const retry = (id: string, key?: string) =>
  console.post(`/v1/deliveries/${id}/retry`, undefined, key === undefined ? {} : keyed(key))

describe('a retry', () => {
  test('of a dead letter begins its schedule anew, and keeps what tells its jobs and leases apart', async () => {
    const id = await finished({ kind: 'dead', reason: 'retries_used_up' })
    await database.store.durable.query(
      `UPDATE deliveries SET expires_at = clock() - interval '1 day', failures = 11, lost_leases = 20`,
    )
    const answer = await retry(id)
    expect(answer).toMatchObject({ status: 202, json: { id, was: 'dead' } })
    expect(await stored(id)).toEqual({
      state: 'pending',
      generation: 1,
      attempt: 1,
      failures: 0,
      lost_leases: 0,
      due: true,
      hours_left: 2,
      dead_reason: null,
      finished_at: null,
      cancel_requested: false,
    })
    expect((await console.get(`/v1/deliveries/${id}`)).json).toMatchObject({
      held: true,
      attempts: 1,
      history: [{ number: 1 }],
    })
  })

  test('of a cancelled delivery lets it go on, and later failures do not cancel it again', async () => {
    const token = randomUUID()
    const id = await admittedDelivery(token)
    await cancelDelivery(database.store.durable, id)
    await record(id, token, { kind: 'retry', delayMs: 0 })
    expect((await stored(id)).state).toBe('cancelled')
    expect(await retry(id)).toMatchObject({ status: 202, json: { was: 'cancelled' } })
    expect(await stored(id)).toMatchObject({ state: 'pending', due: true, cancel_requested: false, failures: 0 })
  })

  test('of a waiting delivery makes it due now and forgives no failure', async () => {
    const id = await finished({ kind: 'retry', delayMs: 600_000 })
    expect(await stored(id)).toMatchObject({ state: 'retrying', due: false })
    expect(await retry(id)).toMatchObject({ status: 202, json: { was: 'retrying' } })
    expect(await stored(id)).toMatchObject({ state: 'retrying', due: true, failures: 1 })
    const pending = await pendingDelivery()
    expect(await retry(pending)).toMatchObject({ status: 202, json: { was: 'pending' } })
    expect(await stored(pending)).toMatchObject({ state: 'pending', due: true })
  })

  test('is fed at once, with the bytes of before', async () => {
    const id = await finished({ kind: 'dead', reason: 'gone' })
    await console.post('/v1/destinations/crm/resume')
    await retry(id)
    await until(async () => (await stored(id)).state === 'queued', { what: 'the retried delivery to be queued' })
    const { leased } = await lease(database.store.fast, [{ id, generation: 2, token: randomUUID() }])
    expect(leased).toMatchObject([{ id, attempt: 2, failures: 0, body: Buffer.from('{}') }])
  })

  test('of a delivered delivery is refused, and says how to send the event again', async () => {
    const id = await finished({ kind: 'delivered', heals: false })
    const answer = await retry(id)
    expect(answer).toMatchObject({
      status: 409,
      json: { code: 'already_delivered', detail: expect.stringMatching(/POST \/v1\/events\/evt_\w{26}\/replay/) },
    })
    expect((await stored(id)).state).toBe('delivered')
  })

  test('of a delivery on its way is refused', async () => {
    const [queued, leased] = [await admittedDelivery(), await admittedDelivery(randomUUID())]
    for (const id of [queued, leased]) {
      const before = await stored(id)
      expect(await retry(id)).toMatchObject({ status: 409, json: { code: 'under_way' } })
      expect(await stored(id)).toEqual(before)
    }
  })

  test('of a delivery whose destination is deleted is refused', async () => {
    const id = await finished({ kind: 'dead', reason: 'expired' })
    await changeConfig(database.store.durable, (change) => remove(change, 'destination', destination))
    expect(await retry(id)).toMatchObject({ status: 409, json: { code: 'destination_deleted' } })
    expect((await stored(id)).state).toBe('dead')
  })

  test('over a deleted connection goes on: what was routed stays', async () => {
    const id = await finished({ kind: 'dead', reason: 'expired' })
    await changeConfig(database.store.durable, (change) => remove(change, 'connection', connection))
    expect((await retry(id)).status).toBe(202)
  })

  test('of nothing is a 404', async () => {
    expect(await retry('dlv_00000000000000000000000000')).toMatchObject({
      status: 404,
      json: { code: 'delivery_unknown' },
    })
  })

  test('asked for twenty times at once under one key happens once, and all get its answer', async () => {
    const id = await finished({ kind: 'dead', reason: 'expired' })
    await console.post('/v1/destinations/crm/resume')
    const answers = await Promise.all(Array.from({ length: 20 }, () => retry(id, 'once')))
    expect(new Set(answers.map(({ status, text }) => `${status} ${JSON.stringify(JSON.parse(text))}`))).toEqual(
      new Set([`202 ${JSON.stringify({ id, was: 'dead' })}`]),
    )
    expect(answers.filter(({ headers }) => headers.get('idempotent-replayed') === null)).toHaveLength(1)
  })

  test('that waited while its key was answered gets that answer, whatever has become of the delivery', async () => {
    const id = await finished({ kind: 'dead', reason: 'expired' })
    await console.post('/v1/destinations/crm/resume')
    const client = await database.store.durable.connect()
    await client.query(`BEGIN; SELECT 1 FROM deliveries WHERE id = '${id}' FOR UPDATE`)
    const answers = Promise.all([retry(id, 'waited'), retry(id, 'waited'), retry(id, 'waited')])
    await until(
      async () => {
        const { rows } = await database.store.fast.query(
          `SELECT 1 FROM pg_stat_activity WHERE application_name = 'tenterhook-console' AND wait_event_type = 'Lock' AND datname = current_database()`,
        )
        return rows.length === 2
      },
      { what: 'two retries to wait for the row' },
    )
    await client.query('COMMIT')
    client.release()
    for (const answer of await answers) expect(answer).toMatchObject({ status: 202, json: { id, was: 'dead' } })
  })

  test('under a key that was answered does nothing, whatever has become of the delivery', async () => {
    const token = randomUUID()
    const id = await finished({ kind: 'dead', reason: 'expired' })
    await retry(id, 'kept')
    await admit(id, token)
    expect(await retry(id, 'kept')).toMatchObject({ status: 202, json: { id, was: 'dead' } })
    expect((await stored(id)).state).toBe('leased')
    await record(id, token, { kind: 'dead', reason: 'expired' })
    expect((await retry(id, 'kept')).headers.get('idempotent-replayed')).toBe('true')
    expect((await stored(id)).state).toBe('dead')
    expect(await retry(await finished({ kind: 'dead', reason: 'expired' }), 'kept')).toMatchObject({
      status: 422,
      json: { code: 'idempotency_key_reused' },
    })
  })

  test('that is refused leaves its key unused', async () => {
    const id = await finished({ kind: 'delivered', heals: false })
    await retry(id, 'unused')
    expect(await retry(await finished({ kind: 'dead', reason: 'expired' }), 'unused')).toMatchObject({ status: 202 })
  })
})

describe('a cancel', () => {
  const cancel = (id: string) => console.post(`/v1/deliveries/${id}/cancel`)

  test('ends a waiting or queued delivery at once', async () => {
    for (const id of [await pendingDelivery(), await admittedDelivery()]) {
      expect(await cancel(id)).toMatchObject({ status: 200, json: { id, attemptInFlight: false } })
      expect(await stored(id)).toMatchObject({ state: 'cancelled', finished_at: expect.any(Date) })
    }
  })

  test('of a leased delivery says that its attempt is in flight, and ends it with the attempt', async () => {
    const token = randomUUID()
    const id = await admittedDelivery(token)
    expect(await cancel(id)).toMatchObject({ status: 200, json: { attemptInFlight: true } })
    expect((await stored(id)).state).toBe('leased')
    await record(id, token, { kind: 'retry', delayMs: 0 })
    expect((await stored(id)).state).toBe('cancelled')
  })

  test('of an ordered delivery lets the next of its key go', async () => {
    const [first, second] = [await pendingDelivery('"k"'), await pendingDelivery('"k"')]
    await admit(first)
    await console.post('/v1/destinations/crm/resume')
    expect((await stored(second)).state).toBe('pending')
    await until(async () => (await console.get(`/v1/deliveries/${second}`)).json['behindEarlier'] === true, {
      what: 'the second to be found behind the first',
    })
    await cancel(first)
    await until(async () => (await stored(second)).state === 'queued', { what: 'the second to be queued' })
    expect((await console.get(`/v1/deliveries/${second}`)).json['behindEarlier']).toBe(false)
  })

  test('can be repeated, and is refused for what has ended otherwise', async () => {
    const id = await pendingDelivery()
    await cancel(id)
    expect(await cancel(id)).toMatchObject({ status: 200, json: { attemptInFlight: false } })
    for (const next of [
      { kind: 'delivered', heals: false },
      { kind: 'dead', reason: 'gone' },
    ] as const) {
      expect(await cancel(await finished(next))).toMatchObject({ status: 409, json: { code: 'already_ended' } })
    }
    expect((await cancel('dlv_00000000000000000000000000')).status).toBe(404)
  })
})

describe('a destination', () => {
  test('is paused with a reason, by name or id, and says so', async () => {
    expect(await console.post('/v1/destinations/crm/pause', { reason: 'they move house' })).toMatchObject({
      status: 200,
      json: { id: destination, paused: true, pauseReason: 'they move house' },
    })
    expect((await console.post(`/v1/destinations/${destination}/pause`, { reason: 'later' })).json['pauseReason']).toBe(
      'they move house',
    )
    expect(await console.post(`/v1/destinations/${destination}/resume`)).toMatchObject({
      status: 200,
      json: { paused: false, pauseReason: null },
    })
  })

  test('that resumes is fed what waited', async () => {
    const id = await pendingDelivery()
    await console.post('/v1/destinations/crm/resume')
    await until(async () => (await stored(id)).state === 'queued', { what: 'the held delivery to be queued' })
  })

  test('that resumes has a closed breaker, whatever had opened it', async () => {
    await database.store.durable.query(
      `UPDATE destinations SET trips = 3, failures_in_row = 40, failing_since = clock(), closed_until = clock() + interval '1 h'`,
    )
    const id = await pendingDelivery()
    expect((await console.post('/v1/destinations/crm/resume')).json).toMatchObject({
      paused: false,
      health: { state: 'closed', waitsUntil: null, failingSince: null, failuresInRow: 0, lane: 'normal' },
    })
    await until(async () => (await stored(id)).state === 'queued', { what: 'the held delivery to be queued' })
  })

  test('that is deleted or never was can be neither paused nor resumed', async () => {
    await changeConfig(database.store.durable, (change) => remove(change, 'destination', destination))
    for (const id of [destination, 'crm', 'nobody']) {
      for (const action of ['pause', 'resume'])
        expect(await console.post(`/v1/destinations/${id}/${action}`), `${id} ${action}`).toMatchObject({
          status: 404,
          json: { code: 'destination_unknown' },
        })
    }
  })
})

describe('a connection', () => {
  test('is paused with a reason, by name or id, and says so; its destination goes on', async () => {
    expect(await console.post('/v1/connections/shop-crm/pause', { reason: 'they import' })).toMatchObject({
      status: 200,
      json: { id: connection, paused: true, pauseReason: 'they import' },
    })
    expect((await console.post(`/v1/connections/${connection}/pause`)).json['pauseReason']).toBe('they import')
    expect((await console.get('/v1/destinations/crm')).json['paused']).toBe(false)
    expect(await console.post(`/v1/connections/${connection}/resume`)).toMatchObject({
      status: 200,
      json: { paused: false, pauseReason: null },
    })
  })

  test('that is put anew stays paused', async () => {
    await console.post('/v1/connections/shop-crm/pause')
    await changeConfig(database.store.durable, (change) =>
      putConnection(change, {
        id: connection,
        sourceId: source,
        destinationId: destination,
        spec: connectionSpec.parse({ name: 'shop-crm', source: 'shop', destination: 'crm', delay: '1s' }),
        managedBy: 'test',
      }),
    )
    expect((await console.get('/v1/connections/shop-crm')).json).toMatchObject({ version: 2, paused: true })
  })

  test('that is deleted can’t be paused by anyone, and resumes by its id: what it held may go', async () => {
    await console.post('/v1/connections/shop-crm/pause')
    await changeConfig(database.store.durable, (change) => remove(change, 'connection', connection))
    for (const path of ['shop-crm/pause', 'shop-crm/resume', `${connection}/pause`, 'nobody/resume'])
      expect(await console.post(`/v1/connections/${path}`), path).toMatchObject({
        status: 404,
        json: { code: 'connection_unknown' },
      })
    expect(await console.post(`/v1/connections/${connection}/resume`)).toMatchObject({
      status: 200,
      json: { paused: false },
    })
  })
})

describe('a duplicate', () => {
  const promote = (id: string) => console.post(`/v1/duplicates/${id}/promote`)

  async function duplicate(differs: boolean) {
    const id = newId('dup', Date.now())
    const received = newEvent(source, {
      body: Buffer.from([0, 255, 1]),
      type: 'order.paid',
      path: '/x',
      headers: '[["A","b"]]',
    })
    await keepDuplicate(database.store.durable, id, await acceptedEvent(), received, differs)
    return id
  }

  test('whose bytes differ becomes an event of its own, once', async () => {
    const id = await duplicate(true)
    const answers = await Promise.all([promote(id), promote(id), promote(id)])
    const events = new Set(answers.map(({ json }) => json['event']))
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([202]))
    expect(events.size).toBe(1)
    const [event] = events
    expect((await console.get(`/v1/events/${String(event)}`)).json).toMatchObject({
      state: 'accepted',
      type: 'order.paid',
      path: '/x',
      headers: [['A', 'b']],
      bodyBase64: Buffer.from([0, 255, 1]).toString('base64'),
      deliveries: [],
    })
    expect((await console.get(`/v1/duplicates/${id}`)).json['promotedAs']).toBe(event)
    expect((await console.get('/v1/events')).data).toHaveLength(2)
    const { rows } = await database.store.fast.query(`SELECT 1 FROM dedupe WHERE event_id = '${String(event)}'`)
    expect(rows).toEqual([])
    expect((await promote(id)).headers.get('idempotent-replayed')).toBe('true')
  })

  test('with the event’s own bytes is nothing to promote', async () => {
    expect(await promote(await duplicate(false))).toMatchObject({ status: 409, json: { code: 'duplicate_equal' } })
    expect((await promote('dup_00000000000000000000000000')).status).toBe(404)
  })
})

test('what operators do is counted', async () => {
  await finished({ kind: 'dead', reason: 'gone' }).then(retry)
  const metrics = await (await fetch(`${console.opsUrl}/metrics`)).text()
  expect(metrics).toMatch(/tenterhook_operator_actions_total\{action="retried"\} [1-9]/)
  expect(metrics).toMatch(/tenterhook_operator_actions_total\{action="promoted"\} 1\n/)
})
