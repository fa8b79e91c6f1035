import { randomUUID } from 'node:crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import {
  deriveDeliveryId,
  type ConnectionId,
  type DeliveryId,
  type DestinationId,
  type EventId,
  type SourceId,
} from '@tenterhook/schemas/ids'
import { addDestination, testKeys, type TestStore } from '../../test/support/store.ts'
import { claimDueEvents, readAcceptedEvents, endUnroutable, triesMax, triesTogetherMax } from './claim.ts'
import { readConfigVersion, readDestinations } from './config.ts'
import { changeConfig, remove } from './config-change.ts'
import { cancelDelivery, pauseDestination, resumeDestination } from './destination-state.ts'
import { wakeForNewEpoch, winRedisEpoch, readRedisEpoch } from './epoch.ts'
import { dueDestinations, expireHeld } from './feed.ts'
import { ensurePartitions } from './partitions.ts'
import { useProtocol } from './protocol.fixture.ts'
import { recordResults, releaseLeases } from './results.ts'
import { routeEvents } from './route.ts'
import { dueQueued, lostLeasesMax, oldestDueAge, sweepLeases } from './sweep.ts'

const nothingFed = { admitted: [], skipped: [], later: [], more: [] }

const { current, accept, deliveryOf, route, admitted, waiting, leased, lease, feedOut, result, row } = useProtocol()
let store: TestStore
let source: SourceId
let destination: DestinationId
let connection: ConnectionId
beforeEach(() => {
  ;({ store, source, destination, connection } = current())
})

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
        true,
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
    const rounds = await Promise.all(Array.from({ length: 8 }, () => feedOut()))
    expect(rounds.flatMap((one) => one.admitted)).toHaveLength(7)
    expect((await feedOut()).admitted).toEqual([])
  })

  test('routers at once admit no more than the window, and say what is left to feed', async () => {
    await store.durable.query('UPDATE destinations SET win = 7')
    const batches = await Promise.all(Array.from({ length: 6 }, () => accept(5)))
    const routed = await Promise.all(batches.map((events) => route(events)))
    const queued = routed.flatMap((one) => (one.kind === 'routed' ? one.queued : []))
    expect(queued.length + (await feedOut()).admitted.length).toBe(7)
    expect(routed.flatMap((one) => (one.kind === 'routed' ? one.toFeed : []))).toContainEqual({
      id: destination,
      tenant: '',
    })
  })

  test('what is new does not overtake what waits', async () => {
    const [first] = await accept(1)
    await waiting([first as EventId])
    const [second] = await accept(1)
    expect(await route([second as EventId])).toEqual({
      kind: 'routed',
      eventIds: [second],
      queued: [],
      toFeed: [{ id: destination, tenant: '' }],
    })
    expect((await feedOut()).admitted.map((one) => one.id)).toEqual(
      [first, second].map((event) => deriveDeliveryId(event as EventId, connection)),
    )
  })

  test('a destination that another feeder holds is reported, to be asked again', async () => {
    await waiting(await accept(1))
    const client = await store.durable.connect()
    try {
      await client.query('BEGIN')
      await client.query({ text: 'SELECT 1 FROM destinations WHERE id = $1 FOR NO KEY UPDATE', values: [destination] })
      expect(await feedOut()).toEqual({ ...nothingFed, skipped: [destination] })
      await client.query('ROLLBACK')
    } finally {
      client.release()
    }
    expect((await feedOut()).admitted).toHaveLength(1)
  })

  test('a delayed delivery waits for its time', async () => {
    await route(await accept(1), { delayMs: 60_000 })
    expect((await feedOut()).admitted).toEqual([])
    expect((await dueDestinations(store.fast, null, 10)).due).toEqual([])
    await store.shiftClock(60_001)
    expect((await dueDestinations(store.fast, null, 10)).due).toEqual([{ id: destination, tenant: '' }])
    expect((await feedOut()).admitted).toHaveLength(1)
  })

  test('a paused destination is fed nothing, its rows are not touched, and it drains in order after resume', async () => {
    const events = await accept(3)
    expect(await pauseDestination(store.durable, destination, 'test')).toBe(true)
    expect(await route(events)).toMatchObject({ queued: [], toFeed: [{ id: destination, tenant: '' }] })
    expect(await feedOut()).toEqual(nothingFed)
    expect((await dueDestinations(store.fast, null, 10)).due).toEqual([])
    await resumeDestination(store.durable, destination)
    const fed = (await feedOut()).admitted.map((one) => one.id)
    expect(fed.toSorted()).toEqual(events.map((event) => deriveDeliveryId(event, connection)).toSorted())
  })

  test('a delivery over its maximum age ends dead, expired', async () => {
    const events = await accept(1)
    await waiting(events, { maxAgeMs: 1_000 })
    await store.shiftClock(1_001)
    expect((await feedOut()).admitted).toEqual([])
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
    expect(await lease(jobs.map((job) => ({ ...job, token: randomUUID() })))).toEqual([])
    const { rows } = await store.durable.query<{ state: string; dead_reason: string }>(
      'SELECT DISTINCT state, dead_reason FROM deliveries',
    )
    expect(rows).toEqual([{ state: 'dead', dead_reason: 'destination_deleted' }])
    expect(await readDestinations(store.fast, [destination], testKeys)).toHaveLength(1)
  })
})

describe('leasing', () => {
  test('hands over what to send, once per admission', async () => {
    const [job] = await admitted(1)
    if (!job) throw new Error('nothing admitted')
    const tries = await Promise.all(Array.from({ length: 10 }, () => lease([{ ...job, token: randomUUID() }])))
    const won = tries.flat()
    expect(won).toHaveLength(1)
    expect(won[0]).toMatchObject({ id: job.id, attempt: 1, failures: 0, body: Buffer.from('body 0') })
  })

  test('of overlapping batches while their rows and their destination change ends in one lease each', async () => {
    await ensurePartitions(store.durable, Date.now())
    for (let round = 0; round < 5; round++) {
      const jobs = await admitted(60)
      const some = (part: number) =>
        jobs.filter((_, i) => (i * 7 + round) % 10 < part * 10).map((job) => ({ ...job, token: randomUUID() }))
      const touch = () =>
        store.fast.query({
          text: `WITH l AS MATERIALIZED (SELECT id FROM deliveries WHERE id = ANY($1) AND admitted ORDER BY id FOR UPDATE)
            UPDATE deliveries d SET wake_at = d.wake_at + interval '1 s' FROM l WHERE d.id = l.id`,
          values: [some(0.3).map((job) => job.id)],
        })
      const asked = () => lease(some(0.6))
      const answers = await Promise.all([
        asked(),
        touch(),
        asked(),
        store.durable.query('UPDATE destinations SET slow_until = clock()'),
        asked(),
        touch(),
        asked(),
      ])
      const ids = answers.flatMap((answer) => (Array.isArray(answer) ? answer.map((one) => one.id) : []))
      expect(ids.toSorted()).toEqual(
        some(0.6)
          .map((job) => job.id)
          .toSorted(),
      )
    }
  })

  test('a job of an earlier generation gets nothing', async () => {
    const [one] = await leased()
    if (!one) throw new Error('nothing leased')
    await recordResults(store.fast, [result(one, { kind: 'retry', delayMs: 0 })])
    await feedOut()
    expect(await lease([{ id: one.id, generation: 1, token: randomUUID() }])).toEqual([])
    expect(await lease([{ id: one.id, generation: 2, token: randomUUID() }])).toHaveLength(1)
  })

  test('a destination that closed in between sends its delivery back to wait', async () => {
    const [job] = await admitted(1)
    if (!job) throw new Error('nothing admitted')
    await store.durable.query(`UPDATE destinations SET closed_until = clock() + interval '30 s'`)
    expect(await lease([{ ...job, token: randomUUID() }])).toEqual([])
    expect(await row(job.id)).toMatchObject({ state: 'pending', attempt: 0 })
    await store.shiftClock(30_001)
    expect((await feedOut()).admitted).toHaveLength(1)
  })

  test('a queued delivery whose job never came is found when its wait is over, under the same generation', async () => {
    const [job] = await admitted(1)
    if (!job) throw new Error('nothing admitted')
    expect(await dueQueued(store.fast, 'normal', 10)).toEqual([])
    await store.shiftClock(10_001)
    expect(await dueQueued(store.fast, 'normal', 10)).toEqual([
      { id: job.id, generation: job.generation, destinationId: destination },
    ])
    expect(await oldestDueAge(store.fast)).toBeGreaterThan(0)
  })
})

describe('results', () => {
  test('a success ends the delivery and its attempt is kept, bytes and all', async () => {
    const [one] = await leased()
    if (!one) throw new Error('nothing leased')
    expect(await recordResults(store.fast, [result(one, { kind: 'delivered', heals: false })])).toEqual([
      { id: one.id, destinationId: destination, state: 'delivered' },
    ])
    expect(await row(one.id)).toMatchObject({ state: 'delivered', due_at: null, lease_token: null, failures: 0 })
    const { rows } = await store.durable.query<{ response_body: Buffer; status: number }>(
      'SELECT response_body, status FROM attempts',
    )
    expect(rows).toEqual([{ response_body: Buffer.from([0, 1]), status: 200 }])
    expect(await recordResults(store.fast, [result(one, { kind: 'delivered', heals: false })])).toEqual([])
  })

  test('a failure of an older lease changes nothing', async () => {
    const [old] = await leased()
    if (!old) throw new Error('nothing leased')
    await store.shiftClock(old.leaseMs + 1)
    expect(await sweepLeases(store.fast, 10)).toHaveLength(1)
    const [job] = (await feedOut()).admitted
    if (!job) throw new Error('nothing admitted')
    const [current] = await lease([{ ...job, token: randomUUID() }])
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
    const [job] = (await feedOut()).admitted
    if (!job) throw new Error('nothing admitted')
    const [current] = await lease([{ ...job, token: randomUUID() }])
    if (!current) throw new Error('nothing leased')
    expect(await recordResults(store.fast, [result(old, { kind: 'delivered', heals: false })])).toMatchObject([
      { state: 'leased' },
    ])
    expect(await recordResults(store.fast, [result(current, { kind: 'retry', delayMs: 1_000 })])).toMatchObject([
      { state: 'delivered' },
    ])
  })

  test('a late success brings a dead delivery back to delivered', async () => {
    const [one] = await leased()
    if (!one) throw new Error('nothing leased')
    await recordResults(store.fast, [result(one, { kind: 'dead', reason: 'retries_used_up' })])
    expect(await row(one.id)).toMatchObject({ state: 'dead', dead_reason: 'retries_used_up' })
    await recordResults(store.fast, [result(one, { kind: 'delivered', heals: false })])
    expect(await row(one.id)).toMatchObject({ state: 'delivered', dead_reason: null })
  })

  test('what a result says of its destination holds from the same moment', async () => {
    const [slow, gone] = await leased(2)
    if (!slow || !gone) throw new Error('nothing leased')
    await recordResults(store.fast, [result(slow, { kind: 'retry', delayMs: 1_000, slowDestinationMs: 30_000 })])
    await route(await accept(1))
    await store.shiftClock(1_001)
    expect((await feedOut()).admitted).toEqual([])
    await store.shiftClock(29_000)
    expect((await feedOut()).admitted).toHaveLength(2)
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
    expect((await feedOut()).admitted).toEqual([])
    await store.shiftClock(30_001)
    expect((await feedOut()).admitted).toMatchObject([{ id: one.id, generation: 2 }])
  })

  test('a retry that would come after the maximum age is a dead letter at once', async () => {
    const [job] = await admitted(1, { maxAgeMs: 10_000 })
    if (!job) throw new Error('nothing admitted')
    const [one] = await lease([{ ...job, token: randomUUID() }])
    if (!one) throw new Error('nothing leased')
    await recordResults(store.fast, [result(one, { kind: 'retry', delayMs: 30_000 })])
    expect(await row(one.id)).toMatchObject({ state: 'dead', dead_reason: 'expired' })
  })

  test('an expired lease is retried without counting a failure, and many lost leases end the delivery', async () => {
    const [job] = await admitted(1, { maxAgeMs: 100 * 86_400_000 })
    let generation = job?.generation ?? 0
    const id = job?.id as DeliveryId
    for (let lost = 1; lost <= lostLeasesMax; lost++) {
      const [one] = await lease([{ id, generation, token: randomUUID() }])
      if (!one) throw new Error('nothing leased')
      await store.shiftClock(one.leaseMs + 1)
      await sweepLeases(store.fast, 10)
      expect(await row(id)).toMatchObject({
        failures: 0,
        lost_leases: lost,
        state: lost === lostLeasesMax ? 'dead' : 'retrying',
      })
      generation = (await feedOut()).admitted[0]?.generation ?? 0
    }
    expect(await row(id)).toMatchObject({ dead_reason: 'leases_lost' })
  })

  test('a released lease is free at once', async () => {
    const [one] = await leased()
    if (!one) throw new Error('nothing leased')
    expect(await releaseLeases(store.fast, [one], 0)).toEqual([destination])
    expect((await feedOut()).admitted).toMatchObject([{ id: one.id }])
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
    const woken = await dueQueued(store.fast, 'normal', 100)
    expect(woken.length).toBeGreaterThanOrEqual(10)
    expect(woken.length).toBeLessThan(15)
  })
})
