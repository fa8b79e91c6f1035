import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, beforeEach } from 'vitest'
import {
  deriveDeliveryId,
  type ConnectionId,
  type DeliveryId,
  type DestinationId,
  type EventId,
  type SourceId,
} from '@tenterhook/schemas/ids'
import {
  addConnection,
  addDestination,
  addSource,
  newEvent,
  openTestStore,
  type TestStore,
} from '../../test/support/store.ts'
import { acceptEvents } from './accept.ts'
import { readConfigVersion } from './config.ts'
import { pauseDestination, resumeDestination } from './destination-state.ts'
import { feed } from './feed.ts'
import { lease as leaseStatement, type Leased } from './lease.ts'
import type { AttemptResult } from './results.ts'
import { routeEvents, type NewDelivery } from './route.ts'

/** A store of the test file's own, emptied before each test, with a source, a connection and a destination; and the protocol's steps over them. */
export function useProtocol() {
  let store: TestStore
  let source: SourceId
  let destination: DestinationId
  let connection: ConnectionId
  beforeAll(async () => {
    store = await openTestStore()
  })
  afterAll(() => store.discard())
  beforeEach(async () => {
    await store.durable.query(
      'TRUNCATE sources, destinations, connections, events, event_content, deliveries, attempts, dedupe, duplicates, redis_epoch',
    )
    source = await addSource(store, { name: 'in' })
    destination = await addDestination(store, { name: 'out' })
    connection = await addConnection(store, source, destination, { name: 'in-out' })
  })

  async function accept(count: number): Promise<EventId[]> {
    const events = Array.from({ length: count }, (_, i) => newEvent(source, { body: Buffer.from(`body ${i}`) }))
    await acceptEvents(store.durable, events, 5_000)
    return events.map((event) => event.id)
  }

  function deliveryOf(eventId: EventId, overrides: Partial<NewDelivery> = {}): NewDelivery {
    return {
      id: deriveDeliveryId(eventId, connection),
      eventId,
      connectionId: connection,
      connectionVersion: 1,
      destinationId: destination,
      orderKey: null,
      delayMs: 0,
      maxAgeMs: 3_600_000,
      traceparent: null,
      ...overrides,
    }
  }

  async function route(eventIds: readonly EventId[], overrides: Partial<NewDelivery> = {}) {
    const { rows } = await store.durable.query<{ id: EventId; seq: string }>({
      text: 'SELECT id, seq FROM events WHERE id = ANY($1)',
      values: [eventIds],
    })
    const seqs = new Map(rows.map((event) => [event.id, event.seq]))
    return routeEvents(
      store.fast,
      await readConfigVersion(store.fast),
      eventIds.map((eventId) => ({
        eventId,
        sourceId: source,
        seq: seqs.get(eventId) ?? '0',
        reasons: null,
        deliveries: [deliveryOf(eventId, overrides)],
      })),
      10_000,
      true,
    )
  }

  const feedOut = (max = 1_000) => feed(store.fast, [{ id: destination, max }], 10_000)

  async function lease(wanted: Parameters<typeof leaseStatement>[1]): Promise<Leased[]> {
    return (await leaseStatement(store.fast, wanted)).leased
  }

  /** Admitted as they are routed. */
  async function admitted(count: number, overrides: Partial<NewDelivery> = {}) {
    const routed = await route(await accept(count), overrides)
    return routed.kind === 'routed' ? routed.queued.map(({ id }) => ({ id, generation: 1 })) : []
  }

  /** Routed while the destination was closed for a moment, so that they wait to be fed. */
  async function waiting(events: readonly EventId[], overrides: Partial<NewDelivery> = {}) {
    await pauseDestination(store.durable, destination, 'test')
    const routed = await route(events, overrides)
    await resumeDestination(store.durable, destination)
    return routed
  }

  async function leased(count = 1): Promise<Leased[]> {
    const jobs = await admitted(count)
    return lease(jobs.map((job) => ({ ...job, token: randomUUID() })))
  }

  function result(one: Leased, next: AttemptResult['next']): AttemptResult {
    return {
      id: one.id,
      token: one.token,
      next,
      attempt: {
        number: one.attempt,
        destinationVersion: 1,
        leasedAt: one.leasedAt,
        startedAtMs: Date.now(),
        outcome: next.kind === 'delivered' ? 'delivered' : 'rejected',
        status: next.kind === 'delivered' ? 200 : 500,
        code: null,
        detail: null,
        address: null,
        responseHeaders: '[]',
        responseBody: Buffer.from([0, 1]),
        responseTruncated: false,
        timings: '{}',
      },
    }
  }

  async function row(id: DeliveryId) {
    const { rows } = await store.durable.query<{
      state: string
      failures: number
      lost_leases: number
      due_at: Date | null
      dead_reason: string | null
      attempt: number
      lease_token: string | null
      generation: number
    }>({
      text: 'SELECT * FROM deliveries WHERE id = $1',
      values: [id],
    })
    if (!rows[0]) throw new Error(`no delivery ${id}`)
    return rows[0]
  }

  return {
    current: () => ({ store, source, destination, connection }),
    accept,
    deliveryOf,
    route,
    admitted,
    waiting,
    leased,
    lease,
    feedOut,
    result,
    row,
  }
}
