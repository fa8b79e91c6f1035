import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
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
  testKeys,
  type TestStore,
} from '../../test/support/store.ts'
import { acceptEvents } from './accept.ts'
import { claimDueEvents, readAcceptedEvents, endUnroutable, triesMax, triesTogetherMax } from './claim.ts'
import { readConfigVersion, readDestinations } from './config.ts'
import { changeConfig, remove } from './config-change.ts'
import { cancelDelivery, pauseDestination, resumeDestination } from './destination-state.ts'
import { wakeForNewEpoch, winRedisEpoch, readRedisEpoch } from './epoch.ts'
import { dueDestinations, expireHeld, feed } from './feed.ts'
import { lease, type Leased } from './lease.ts'
import { recordResults, releaseLeases, type AttemptResult } from './results.ts'
import { routeEvents, type NewDelivery } from './route.ts'
import { dueQueued, lostLeasesMax, oldestDueAge, sweepLeases } from './sweep.ts'

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
  )
}

/** Admitted as they are routed. */
async function admitted(count: number, overrides: Partial<NewDelivery> = {}) {
  const routed = await route(await accept(count), overrides)
  return routed.kind === 'routed' ? routed.queued.map((id) => ({ id, generation: 1 })) : []
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
  return lease(
    store.fast,
    jobs.map((job) => ({ ...job, token: randomUUID() })),
  )
}

function result(one: Leased, next: AttemptResult['next']): AttemptResult {
  return {
    id: one.id,
    token: one.token,
    next,
    attempt: {
      number: one.attempt,
      destinationVersion: 1,
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

describe('routing', () => {
  test('two copies that route the same events make one delivery each', async () => {
    const events = await accept(20)
    const routed = await Promise.all([route(events), route(events.toReversed())])
    const moved = routed.flatMap((one) => (one.kind === 'routed' ? one.eventIds : []))
    expect(moved.toSorted()).toEqual(events.toSorted())
    const { rows } = await store.durable.query<{ n: number }>('SELECT count(*)::int AS n FROM deliveries')
    expect(rows[0]?.n).toBe(20)
  })

  test('nothing is routed by a configuration that is not the newest', async () => {
    const [event] = await accept(1)
    if (!event) throw new Error('no event')
    const old = await readConfigVersion(store.fast)
    await addDestination(store, { name: 'newer' })
    expect(
      await routeEvents(
        store.fast,
        old,
        [{ eventId: event, sourceId: source, seq: '0', reasons: null, deliveries: [deliveryOf(event)] }],
        10_000,
      ),
    ).toEqual({ kind: 'config_changed' })
    expect(await route([event])).toMatchObject({ kind: 'routed', eventIds: [event] })
  })

  test('an accepted event that no job brought is claimed when its time comes, and not again at once', async () => {
    const events = await accept(3)
    expect(await claimDueEvents(store.fast, 10, 5_000)).toEqual([])
    await store.shiftClock(5_001)
    expect((await claimDueEvents(store.fast, 10, 5_000)).map((event) => event.id)).toEqual(events)
    expect(await claimDueEvents(store.fast, 10, 5_000)).toEqual([])
  })

  test('an event that keeps failing is claimed alone, and ends unroutable', async () => {
    const [poison, ...others] = await accept(4)
    if (!poison) throw new Error('no event')
    expect(await readAcceptedEvents(store.fast, [poison, ...others])).toHaveLength(4)
    for (let tries = 0; tries < triesTogetherMax; tries++) {
      await store.shiftClock(60_000)
      expect((await claimDueEvents(store.fast, 10, 5_000)).map((event) => event.tries)).toEqual(
        Array(4).fill(tries + 1),
      )
    }
    // What a sweep took over is no job's any more.
    expect(await readAcceptedEvents(store.fast, [poison, ...others])).toEqual([])
    await route(others)
    await store.shiftClock(60_000)
    for (let tries = triesTogetherMax; tries < triesMax; tries++) {
      expect((await claimDueEvents(store.fast, 10, 5_000)).map((event) => event.id)).toEqual([poison])
      expect(await endUnroutable(store.fast, 10)).toEqual([])
      await store.shiftClock(60_000)
    }
    expect(await claimDueEvents(store.fast, 10, 5_000)).toEqual([])
    expect(await endUnroutable(store.fast, 10)).toEqual([poison])
  })
})

describe('feeding', () => {
  test('admits no more than the window, with any number of feeders at once', async () => {
    await store.durable.query('UPDATE destinations SET win = 7')
    await waiting(await accept(50))
    const rounds = await Promise.all(Array.from({ length: 8 }, () => feed(store.fast, [destination], 10_000)))
    expect(rounds.flatMap((one) => one.admitted)).toHaveLength(7)
    expect((await feed(store.fast, [destination], 10_000)).admitted).toEqual([])
  })

  test('routers at once admit no more than the window, and say what is left to feed', async () => {
    await store.durable.query('UPDATE destinations SET win = 7')
    const batches = await Promise.all(Array.from({ length: 6 }, () => accept(5)))
    const routed = await Promise.all(batches.map((events) => route(events)))
    const queued = routed.flatMap((one) => (one.kind === 'routed' ? one.queued : []))
    expect(queued.length + (await feed(store.fast, [destination], 10_000)).admitted.length).toBe(7)
    expect(routed.flatMap((one) => (one.kind === 'routed' ? one.toFeed : []))).toContain(destination)
  })

  test('what is new does not overtake what waits', async () => {
    const [first] = await accept(1)
    await waiting([first as EventId])
    const [second] = await accept(1)
    expect(await route([second as EventId])).toEqual({
      kind: 'routed',
      eventIds: [second],
      queued: [],
      toFeed: [destination],
    })
    expect((await feed(store.fast, [destination], 10_000)).admitted.map((one) => one.id)).toEqual(
      [first, second].map((event) => deriveDeliveryId(event as EventId, connection)),
    )
  })

  test('a destination that another feeder holds is reported, to be asked again', async () => {
    await waiting(await accept(1))
    const client = await store.durable.connect()
    try {
      await client.query('BEGIN')
      await client.query({ text: 'SELECT 1 FROM destinations WHERE id = $1 FOR NO KEY UPDATE', values: [destination] })
      expect(await feed(store.fast, [destination], 10_000)).toEqual({ admitted: [], skipped: [destination] })
      await client.query('ROLLBACK')
    } finally {
      client.release()
    }
    expect((await feed(store.fast, [destination], 10_000)).admitted).toHaveLength(1)
  })

  test('a delayed delivery waits for its time', async () => {
    await route(await accept(1), { delayMs: 60_000 })
    expect((await feed(store.fast, [destination], 10_000)).admitted).toEqual([])
    expect(await dueDestinations(store.fast, 10)).toEqual([])
    await store.shiftClock(60_001)
    expect(await dueDestinations(store.fast, 10)).toEqual([destination])
    expect((await feed(store.fast, [destination], 10_000)).admitted).toHaveLength(1)
  })

  test('a paused destination is fed nothing, its rows are not touched, and it drains in order after resume', async () => {
    const events = await accept(3)
    expect(await pauseDestination(store.durable, destination, 'test')).toBe(true)
    expect(await route(events)).toMatchObject({ queued: [], toFeed: [destination] })
    expect(await feed(store.fast, [destination], 10_000)).toEqual({ admitted: [], skipped: [] })
    expect(await dueDestinations(store.fast, 10)).toEqual([])
    await resumeDestination(store.durable, destination)
    const fed = (await feed(store.fast, [destination], 10_000)).admitted.map((one) => one.id)
    expect(fed.toSorted()).toEqual(events.map((event) => deriveDeliveryId(event, connection)).toSorted())
  })

  test('a delivery over its maximum age ends dead, expired', async () => {
    const events = await accept(1)
    await waiting(events, { maxAgeMs: 1_000 })
    await store.shiftClock(1_001)
    expect((await feed(store.fast, [destination], 10_000)).admitted).toEqual([])
    expect(await row(deriveDeliveryId(events[0] as EventId, connection))).toMatchObject({
      state: 'dead',
      dead_reason: 'expired',
      due_at: null,
    })
  })

  test('what waits for a deleted destination goes dead, and nothing is sent there', async () => {
    const jobs = await admitted(1)
    await waiting(await accept(2))
    await changeConfig(store.durable, (change) => remove(change, 'destination', destination))
    expect(
      await lease(
        store.fast,
        jobs.map((job) => ({ ...job, token: randomUUID() })),
      ),
    ).toEqual([])
    const { rows } = await store.durable.query<{ state: string; dead_reason: string }>(
      'SELECT DISTINCT state, dead_reason FROM deliveries',
    )
    expect(rows).toEqual([{ state: 'dead', dead_reason: 'destination_deleted' }])
    expect(await readDestinations(store.fast, [destination], testKeys)).toHaveLength(1)
  })
})

describe('plans on a day that was never analyzed', () => {
  test.each([
    ['sweepLeases', () => sweepLeases(store.fast, 10)],
    ['dueQueued', () => dueQueued(store.fast, 10)],
    ['feed', () => feed(store.fast, [destination], 10_000)],
    ['dueDestinations', () => dueDestinations(store.fast, 10)],
    ['claimDueEvents', () => claimDueEvents(store.fast, 10, 5_000)],
  ])('%s reads no more of a long history than of none', async (_what, statement) => {
    await store.durable.query(`
      INSERT INTO deliveries (id, event_id, connection_id, connection_version, destination_id, source_id, seq, state, expires_at, finished_at)
      SELECT 'dlv_' || lpad(n::text, 26, '0'), 'evt', '${connection}', 1, '${destination}', '${source}', n, 'delivered', clock(), clock() FROM generate_series(1, 20000) n;
      INSERT INTO events (id, source_id, source_version, state, body_bytes, received_at)
      SELECT 'evt_' || lpad(n::text, 26, '0'), '${source}', 1, 'routed', 1, clock() FROM generate_series(1, 20000) n`)
    const read = async () => {
      const client = await store.durable.connect()
      try {
        await client.query('SELECT pg_stat_force_next_flush()')
        const { rows } = await client.query<{ n: number }>(
          `SELECT sum(idx_tup_fetch + seq_tup_read)::int AS n FROM pg_stat_user_tables WHERE schemaname = $1 AND relname ~ '^(deliveries|events)'`,
          [store.schema],
        )
        return rows[0]?.n ?? 0
      } finally {
        client.release()
      }
    }
    const flushed = async () => {
      await store.fast.query('SELECT pg_stat_force_next_flush()')
      return read()
    }
    await statement()
    const before = await flushed()
    await statement()
    expect((await flushed()) - before).toBeLessThan(1_000)
  })
})

describe('leasing', () => {
  test('hands over what to send, once per admission', async () => {
    const [job] = await admitted(1)
    if (!job) throw new Error('nothing admitted')
    const tries = await Promise.all(
      Array.from({ length: 10 }, () => lease(store.fast, [{ ...job, token: randomUUID() }])),
    )
    const won = tries.flat()
    expect(won).toHaveLength(1)
    expect(won[0]).toMatchObject({ id: job.id, attempt: 1, failures: 0, body: Buffer.from('body 0') })
  })

  test('a job of an earlier generation gets nothing', async () => {
    const [one] = await leased()
    if (!one) throw new Error('nothing leased')
    await recordResults(store.fast, [result(one, { kind: 'retry', delayMs: 0 })])
    await feed(store.fast, [destination], 10_000)
    expect(await lease(store.fast, [{ id: one.id, generation: 1, token: randomUUID() }])).toEqual([])
    expect(await lease(store.fast, [{ id: one.id, generation: 2, token: randomUUID() }])).toHaveLength(1)
  })

  test('a destination that closed in between sends its delivery back to wait', async () => {
    const [job] = await admitted(1)
    if (!job) throw new Error('nothing admitted')
    await store.durable.query(`UPDATE destinations SET closed_until = clock() + interval '30 s'`)
    expect(await lease(store.fast, [{ ...job, token: randomUUID() }])).toEqual([])
    expect(await row(job.id)).toMatchObject({ state: 'pending', attempt: 0 })
    await store.shiftClock(30_001)
    expect((await feed(store.fast, [destination], 10_000)).admitted).toHaveLength(1)
  })

  test('a queued delivery whose job never came is found when its wait is over, under the same generation', async () => {
    const [job] = await admitted(1)
    if (!job) throw new Error('nothing admitted')
    expect(await dueQueued(store.fast, 10)).toEqual([])
    await store.shiftClock(10_001)
    expect(await dueQueued(store.fast, 10)).toEqual([{ id: job.id, generation: job.generation }])
    expect(await oldestDueAge(store.fast)).toBeGreaterThan(0)
  })
})

describe('results', () => {
  test('a success ends the delivery and its attempt is kept, bytes and all', async () => {
    const [one] = await leased()
    if (!one) throw new Error('nothing leased')
    expect(await recordResults(store.fast, [result(one, { kind: 'delivered' })])).toEqual([
      { id: one.id, destinationId: destination, state: 'delivered' },
    ])
    expect(await row(one.id)).toMatchObject({ state: 'delivered', due_at: null, lease_token: null, failures: 0 })
    const { rows } = await store.durable.query<{ response_body: Buffer; status: number }>(
      'SELECT response_body, status FROM attempts',
    )
    expect(rows).toEqual([{ response_body: Buffer.from([0, 1]), status: 200 }])
    expect(await recordResults(store.fast, [result(one, { kind: 'delivered' })])).toEqual([])
  })

  test('a failure of an older lease changes nothing', async () => {
    const [old] = await leased()
    if (!old) throw new Error('nothing leased')
    await store.shiftClock(old.leaseMs + 1)
    expect(await sweepLeases(store.fast, 10)).toHaveLength(1)
    const [job] = (await feed(store.fast, [destination], 10_000)).admitted
    if (!job) throw new Error('nothing admitted')
    const [current] = await lease(store.fast, [{ ...job, token: randomUUID() }])
    if (!current) throw new Error('nothing leased')
    expect(await recordResults(store.fast, [result(old, { kind: 'dead', reason: 'retries_used_up' })])).toEqual([])
    expect(await row(old.id)).toMatchObject({
      state: 'leased',
      lease_token: current.token,
      failures: 0,
      lost_leases: 1,
    })
  })

  test("a late success counts, but doesn't end another's living lease", async () => {
    const [old] = await leased()
    if (!old) throw new Error('nothing leased')
    await store.shiftClock(old.leaseMs + 1)
    await sweepLeases(store.fast, 10)
    const [job] = (await feed(store.fast, [destination], 10_000)).admitted
    if (!job) throw new Error('nothing admitted')
    const [current] = await lease(store.fast, [{ ...job, token: randomUUID() }])
    if (!current) throw new Error('nothing leased')
    expect(await recordResults(store.fast, [result(old, { kind: 'delivered' })])).toMatchObject([{ state: 'leased' }])
    expect(await recordResults(store.fast, [result(current, { kind: 'retry', delayMs: 1_000 })])).toMatchObject([
      { state: 'delivered' },
    ])
  })

  test('a late success brings a dead delivery back to delivered', async () => {
    const [one] = await leased()
    if (!one) throw new Error('nothing leased')
    await recordResults(store.fast, [result(one, { kind: 'dead', reason: 'retries_used_up' })])
    expect(await row(one.id)).toMatchObject({ state: 'dead', dead_reason: 'retries_used_up' })
    await recordResults(store.fast, [result(one, { kind: 'delivered' })])
    expect(await row(one.id)).toMatchObject({ state: 'delivered', dead_reason: null })
  })

  test('what a result says of its destination holds from the same moment', async () => {
    const [slow, gone] = await leased(2)
    if (!slow || !gone) throw new Error('nothing leased')
    await recordResults(store.fast, [result(slow, { kind: 'retry', delayMs: 1_000, slowDestinationMs: 30_000 })])
    await route(await accept(1))
    await store.shiftClock(1_001)
    expect((await feed(store.fast, [destination], 10_000)).admitted).toEqual([])
    await store.shiftClock(29_000)
    expect((await feed(store.fast, [destination], 10_000)).admitted).toHaveLength(2)
    await recordResults(store.fast, [result(gone, { kind: 'dead', reason: 'gone', pauseReason: 'it is gone' })])
    const { rows } = await store.durable.query<{ paused: boolean; pause_reason: string }>(
      'SELECT paused, pause_reason FROM destinations',
    )
    expect(rows).toEqual([{ paused: true, pause_reason: 'it is gone' }])
  })

  test('what is over its maximum age ends also behind a paused destination', async () => {
    const events = await accept(2)
    await pauseDestination(store.durable, destination, 'test')
    await route(events.slice(0, 1), { maxAgeMs: 1_000 })
    await route(events.slice(1), { maxAgeMs: 10_000 })
    await store.shiftClock(1_001)
    expect(await expireHeld(store.fast, 10)).toBe(1)
    expect(await row(deriveDeliveryId(events[0] as EventId, connection))).toMatchObject({
      state: 'dead',
      dead_reason: 'expired',
    })
  })

  test('a retry waits in Postgres for its time', async () => {
    const [one] = await leased()
    if (!one) throw new Error('nothing leased')
    await recordResults(store.fast, [result(one, { kind: 'retry', delayMs: 30_000 })])
    expect(await row(one.id)).toMatchObject({ state: 'retrying', failures: 1 })
    expect((await feed(store.fast, [destination], 10_000)).admitted).toEqual([])
    await store.shiftClock(30_001)
    expect((await feed(store.fast, [destination], 10_000)).admitted).toMatchObject([{ id: one.id, generation: 2 }])
  })

  test('a retry that would come after the maximum age is a dead letter at once', async () => {
    const [job] = await admitted(1, { maxAgeMs: 10_000 })
    if (!job) throw new Error('nothing admitted')
    const [one] = await lease(store.fast, [{ ...job, token: randomUUID() }])
    if (!one) throw new Error('nothing leased')
    await recordResults(store.fast, [result(one, { kind: 'retry', delayMs: 30_000 })])
    expect(await row(one.id)).toMatchObject({ state: 'dead', dead_reason: 'expired' })
  })

  test('an expired lease is retried without counting a failure, and many lost leases end the delivery', async () => {
    const [job] = await admitted(1, { maxAgeMs: 100 * 86_400_000 })
    let generation = job?.generation ?? 0
    const id = job?.id as DeliveryId
    for (let lost = 1; lost <= lostLeasesMax; lost++) {
      const [one] = await lease(store.fast, [{ id, generation, token: randomUUID() }])
      if (!one) throw new Error('nothing leased')
      await store.shiftClock(one.leaseMs + 1)
      await sweepLeases(store.fast, 10)
      expect(await row(id)).toMatchObject({
        failures: 0,
        lost_leases: lost,
        state: lost === lostLeasesMax ? 'dead' : 'retrying',
      })
      generation = (await feed(store.fast, [destination], 10_000)).admitted[0]?.generation ?? 0
    }
    expect(await row(id)).toMatchObject({ dead_reason: 'leases_lost' })
  })

  test('a released lease is free at once', async () => {
    const [one] = await leased()
    if (!one) throw new Error('nothing leased')
    expect(await releaseLeases(store.fast, [one], 0)).toEqual([destination])
    expect((await feed(store.fast, [destination], 10_000)).admitted).toMatchObject([{ id: one.id }])
  })

  test('a cancel ends a waiting delivery, and one in flight when its attempt fails', async () => {
    const [event] = await accept(1)
    await waiting([event as EventId])
    const id = deriveDeliveryId(event as EventId, connection)
    expect(await cancelDelivery(store.durable, id)).toEqual({ attemptInFlight: false })
    expect(await row(id)).toMatchObject({ state: 'cancelled' })
    expect(await cancelDelivery(store.durable, id)).toBeUndefined()
    const [flying] = await leased()
    if (!flying) throw new Error('nothing leased')
    expect(await cancelDelivery(store.durable, flying.id)).toEqual({ attemptInFlight: true })
    await recordResults(store.fast, [result(flying, { kind: 'retry', delayMs: 1 })])
    expect(await row(flying.id)).toMatchObject({ state: 'cancelled' })
  })
})

describe('a new Redis', () => {
  test('is taken over by one copy alone, which wakes what waited for a job at a bounded pace', async () => {
    await admitted(20)
    await accept(2)
    const wins = await Promise.all(
      Array.from({ length: 5 }, (_, i) => winRedisEpoch(store.fast, undefined, { runId: 'r1', key: `k${i}` })),
    )
    expect(wins.filter(Boolean)).toHaveLength(1)
    const seen = await readRedisEpoch(store.fast)
    const again = await Promise.all(
      Array.from({ length: 5 }, (_, i) => winRedisEpoch(store.fast, seen, { runId: 'r2', key: `k${i}` })),
    )
    expect(again.filter(Boolean)).toHaveLength(1)
    expect(await wakeForNewEpoch(store.fast, 10)).toEqual({ events: 2, deliveries: 20 })
    await store.shiftClock(1_050)
    const woken = await dueQueued(store.fast, 100)
    expect(woken.length).toBeGreaterThanOrEqual(10)
    expect(woken.length).toBeLessThan(15)
  })
})
