import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  deriveDeliveryId,
  newId,
  type DeliveryId,
  type DestinationId,
  type EventId,
  type SourceId,
} from '@tenterhook/schemas/ids'
import type { DeliveryState } from '@tenterhook/schemas/states'
import { until } from '../../test/support/poll.ts'
import { addDestination, addSource, newEvent, openTestStore, type TestStore } from '../../test/support/store.ts'
import { acceptEvents } from './accept.ts'
import { inTransaction, type Db } from './connect.ts'
import { dayMs, dayName, dayOf, ensurePartitions, partitioned, partitionName } from './partitions.ts'
import { retryDelivery } from './retry.ts'
import { dropTakenOut, expireUnfinished, noteOverdue, storedDays, takeOutDay } from './retention.ts'

const day = dayOf(Date.now()) - 40 * dayMs
const noon = day + dayMs / 2
const connection = newId('con', day)
const hourMs = 3_600_000

let store: TestStore
let source: SourceId
let destination: DestinationId
beforeAll(async () => {
  store = await openTestStore()
  source = await addSource(store, { name: 'in' })
  destination = await addDestination(store, { name: 'out' })
})
afterAll(() => store.discard())
beforeEach(async () => {
  await dropTakenOut(store.fast)
  await store.fast.query('TRUNCATE events, event_content, deliveries, attempts, overdue_days')
  await ensurePartitions(store.fast, day)
  await ensurePartitions(store.fast, Date.now())
})

async function addEvents(count: number, atMs: number, state: 'accepted' | 'routed' = 'routed'): Promise<EventId[]> {
  const events = Array.from({ length: count }, (_, i) => newEvent(source, { id: newId('evt', atMs + i) }))
  await acceptEvents(store.fast, events, 5_000)
  const ids = events.map((event) => event.id)
  if (state === 'routed')
    await store.fast.query({
      text: `UPDATE events SET state = 'routed', due_at = NULL WHERE id = ANY($1)`,
      values: [ids],
    })
  return ids
}

async function addDelivery(
  eventId: EventId,
  state: DeliveryState,
  replay?: { key: string; nowMs: number },
): Promise<DeliveryId> {
  const id = deriveDeliveryId(eventId, connection, replay)
  const finished = state === 'delivered' || state === 'dead' || state === 'cancelled'
  const admitted = state === 'queued' || state === 'leased'
  await store.fast.query({
    text: `INSERT INTO deliveries (id, event_id, connection_id, connection_version, destination_id, source_id, seq, state, admitted,
        due_at, wake_at, lease_token, expires_at, replay_of, dead_reason)
      VALUES ($1, $2, $3, 1, $4, $5, 1, $6, $7, CASE WHEN $8 THEN clock() END, CASE WHEN $7 THEN clock() END, $9, clock(), $10, $11)`,
    values: [
      id,
      eventId,
      connection,
      destination,
      source,
      state,
      admitted,
      !finished,
      state === 'leased' ? randomUUID() : null,
      replay ? eventId : null,
      state === 'dead' ? 'gone' : null,
    ],
  })
  await store.fast.query({
    text: `INSERT INTO attempts (delivery_id, lease_token, number, destination_version, leased_at, started_at, outcome, timings)
      VALUES ($1, $2, 1, 1, now(), now(), 'rejected', '{}')`,
    values: [id, randomUUID()],
  })
  return id
}

/** A day of finished events and their deliveries. */
async function addDay(atMs: number, count = 3): Promise<EventId[]> {
  const events = await addEvents(count, atMs)
  for (const [i, event] of events.entries()) await addDelivery(event, i % 2 === 0 ? 'delivered' : 'dead')
  return events
}

async function partitionsOf(ofDay: number): Promise<string[]> {
  const { rows } = await store.durable.query<{ name: string }>({
    text: `SELECT relname AS name FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relname LIKE $1 AND relkind = 'r' ORDER BY 1`,
    values: [`%${dayName(ofDay).replaceAll('-', '')}%`],
  })
  return rows.map((row) => row.name)
}

const namesOf = (ofDay: number) => partitioned.map((part) => partitionName(part, ofDay)).toSorted()

async function count(table: string, where = 'true'): Promise<number> {
  const { rows } = await store.durable.query<{ n: number }>(`SELECT count(*)::int AS n FROM ${table} WHERE ${where}`)
  return rows[0]?.n ?? -1
}

/** While a long reader, such as a backup, uses a table. */
async function whileRead<T>(table: string, work: () => Promise<T>): Promise<T> {
  const reader = await store.durable.connect()
  try {
    await reader.query('BEGIN')
    await reader.query(`SELECT count(*) FROM ${table}`)
    return await work()
  } finally {
    await reader.query('ROLLBACK')
    reader.release()
  }
}

async function setDelivery(id: DeliveryId, state: 'delivered'): Promise<void> {
  await store.fast.query({
    text: `UPDATE deliveries SET state = $2, due_at = NULL, wake_at = NULL, admitted = false, lease_token = NULL WHERE id = $1`,
    values: [id, state],
  })
}

describe('a day whose rows have all ended', () => {
  test('goes, with all of it, and no other day does', async () => {
    await addDay(noon)
    await addDay(noon + dayMs)
    await addDay(Date.now())
    expect(await storedDays(store.fast, noon + 2 * dayMs)).toEqual([day, day + dayMs, day + 2 * dayMs])
    expect(await takeOutDay(store.fast, day)).toEqual({ kind: 'out' })
    expect(await dropTakenOut(store.fast)).toHaveLength(4)
    expect(await partitionsOf(day)).toEqual([])
    expect(await partitionsOf(day + dayMs)).toEqual(namesOf(day + dayMs))
    for (const { table } of partitioned) expect(await count(table), table).toBe(6)
    expect(await storedDays(store.fast, noon + 2 * dayMs)).toEqual([day + dayMs, day + 2 * dayMs])
  })

  test('goes from the default partitions too, a batch at a time', async () => {
    const early = day - 10 * dayMs
    await addDay(early + hourMs, 3)
    await addEvents(247, early + 2 * hourMs)
    await addDay(early + dayMs, 3)
    expect(await count('events_default')).toBe(253)
    let calls = 1
    while ((await takeOutDay(store.fast, early)).kind === 'more') calls += 1
    expect(calls, 'batches').toBeGreaterThan(4)
    for (const { table } of partitioned) expect(await count(table), table).toBe(3)
    expect(await storedDays(store.fast, early + 2 * dayMs)).toEqual([early + dayMs])
  })

  test('goes when only some of its tables have a partition, and the others strays', async () => {
    await store.durable.query(`DROP TABLE ${partitionName(partitioned[2], day)}`)
    await addDay(noon)
    expect(await count('deliveries_default')).toBe(3)
    while ((await takeOutDay(store.fast, day)).kind === 'more');
    await dropTakenOut(store.fast)
    expect(await partitionsOf(day)).toEqual([])
    for (const { table } of partitioned) expect(await count(table), table).toBe(0)
  })
})

describe('a day with something unfinished', () => {
  test.each<DeliveryState>(['pending', 'queued', 'leased', 'retrying'])(
    'stays whole for one %s delivery',
    async (state) => {
      const [first] = await addDay(noon)
      const [event] = await addEvents(1, noon + hourMs)
      if (!first || !event) throw new Error('no event')
      const id = await addDelivery(event, state)
      expect(await takeOutDay(store.fast, day)).toEqual({
        kind: 'unfinished',
        unfinished: { events: 0, deliveries: 1, replays: 0 },
      })
      expect(await partitionsOf(day)).toEqual(namesOf(day))
      await setDelivery(id, 'delivered')
      expect(await takeOutDay(store.fast, day)).toEqual({ kind: 'out' })
    },
  )

  test('stays whole for one unrouted event', async () => {
    await addDay(noon)
    await addEvents(1, noon + hourMs, 'accepted')
    expect(await takeOutDay(store.fast, day)).toMatchObject({ kind: 'unfinished', unfinished: { events: 1 } })
    expect(await partitionsOf(day)).toEqual(namesOf(day))
  })

  test('stays whole for unfinished strays in the default partition', async () => {
    const early = day - 10 * dayMs
    const [event] = await addDay(early)
    if (!event) throw new Error('no event')
    const id = await addDelivery(event, 'pending', { key: 'r', nowMs: early + 1 })
    expect(await takeOutDay(store.fast, early)).toMatchObject({ kind: 'unfinished', unfinished: { deliveries: 1 } })
    expect(await count('events_default')).toBe(3)
    await setDelivery(id, 'delivered')
    while ((await takeOutDay(store.fast, early)).kind === 'more');
    expect(await count('events_default')).toBe(0)
  })

  test('keeps the content that a replay of another day waits to send', async () => {
    const [event] = await addDay(noon)
    if (!event) throw new Error('no event')
    const replay = await addDelivery(event, 'pending', { key: 'k', nowMs: Date.now() })
    expect(await takeOutDay(store.fast, day)).toEqual({
      kind: 'unfinished',
      unfinished: { events: 0, deliveries: 0, replays: 1 },
    })
    expect(await count('event_content', `event_id = '${event}'`)).toBe(1)
    await setDelivery(replay, 'delivered')
    expect(await takeOutDay(store.fast, day)).toEqual({ kind: 'out' })
    expect(await count('deliveries', `id = '${replay}'`)).toBe(1)
  })

  test('keeps its events for a replay that came while its deliveries went', async () => {
    const [event] = await addDay(noon)
    if (!event) throw new Error('no event')
    const replay = await whileRead('events', async () => {
      expect(await takeOutDay(store.fast, day)).toEqual({ kind: 'locked' })
      expect(await partitionsOf(day)).not.toContain(partitionName(partitioned[2], day))
      return addDelivery(event, 'pending', { key: 'k', nowMs: Date.now() })
    })
    expect(await takeOutDay(store.fast, day)).toMatchObject({ kind: 'unfinished', unfinished: { replays: 1 } })
    expect(await count('event_content', `event_id = '${event}'`)).toBe(1)
    await setDelivery(replay, 'delivered')
    expect(await takeOutDay(store.fast, day)).toEqual({ kind: 'out' })
    expect(await count('event_content')).toBe(0)
  })

  test('is alerted once among several copies, and remembers when', async () => {
    const noted = await Promise.all([1, 2, 3].map(() => noteOverdue(store.fast, day)))
    expect(noted.filter(({ first }) => first)).toHaveLength(1)
    await store.shiftClock(hourMs)
    const later = await noteOverdue(store.fast, day)
    expect(later.first).toBe(false)
    expect(later.sinceMs).toBeGreaterThanOrEqual(hourMs)
    await addDay(noon)
    await takeOutDay(store.fast, day)
    expect(await count('overdue_days')).toBe(0)
  })

  test('ends as dead letters and unroutable events, but for what is leased, and then goes', async () => {
    const events = await addEvents(4, noon)
    const [a, b, c, d] = events
    if (!a || !b || !c || !d) throw new Error('no event')
    const [accepted] = await addEvents(1, noon + hourMs, 'accepted')
    const ended = [
      await addDelivery(a, 'pending'),
      await addDelivery(b, 'queued'),
      await addDelivery(c, 'retrying'),
      await addDelivery(c, 'pending', { key: 'r', nowMs: Date.now() }),
    ]
    const leased = await addDelivery(d, 'leased')
    const other = await addDelivery((await addEvents(1, noon + dayMs))[0] ?? a, 'pending')
    const expired = await expireUnfinished(store.fast, day, 100)
    expect(expired.events).toEqual([accepted])
    expect(expired.deliveries.toSorted()).toEqual(ended.toSorted())
    expect(await count('deliveries', `state = 'dead' AND dead_reason = 'expired'`)).toBe(4)
    expect(await count('deliveries', `id IN ('${leased}', '${other}') AND due_at IS NOT NULL`)).toBe(2)
    expect(await takeOutDay(store.fast, day)).toMatchObject({ kind: 'unfinished', unfinished: { deliveries: 1 } })
    await setDelivery(leased, 'delivered')
    expect(await takeOutDay(store.fast, day)).toEqual({ kind: 'out' })
  })

  test('ends a batch at a time', async () => {
    const events = await addEvents(5, noon)
    for (const event of events) await addDelivery(event, 'pending')
    expect((await expireUnfinished(store.fast, day, 3)).deliveries).toHaveLength(3)
    expect((await expireUnfinished(store.fast, day, 3)).deliveries).toHaveLength(2)
  })
})

describe('a process that is killed', () => {
  test('between taking out and dropping leaves what the next round drops', async () => {
    await addDay(noon)
    await takeOutDay(store.fast, day)
    // Here it is killed.
    expect(await partitionsOf(day)).toEqual(namesOf(day).map((name) => `${name}_taken_out`))
    expect((await dropTakenOut(store.fast)).toSorted()).toEqual(namesOf(day).map((name) => `${name}_taken_out`))
    expect(await partitionsOf(day)).toEqual([])
  })

  test('between two partitions leaves a day that the next round goes on with', async () => {
    await addDay(noon)
    await whileRead('events', async () => {
      expect(await takeOutDay(store.fast, day)).toEqual({ kind: 'locked' })
    })
    expect(await count('events')).toBe(3)
    expect(await count('deliveries')).toBe(0)
    expect(await takeOutDay(store.fast, day)).toEqual({ kind: 'out' })
    expect(await dropTakenOut(store.fast)).toHaveLength(4)
  })

  test('leaves alone a partition that an operator detached', async () => {
    const name = partitionName(partitioned[0], day)
    await store.durable.query(`ALTER TABLE events DETACH PARTITION ${name}`)
    expect(await dropTakenOut(store.fast)).toEqual([])
    expect(await partitionsOf(day)).toContain(name)
    await store.durable.query(`ALTER TABLE ${name} RENAME TO kept`)
  })
})

describe('several copies', () => {
  test('take days out and drop them together', async () => {
    for (let n = 0; n < 4; n++) await addDay(noon + n * dayMs)
    const days = await storedDays(store.fast, noon + 4 * dayMs)
    const dropped: string[] = []
    await Promise.all(
      [1, 2, 3].map(async () => {
        for (const one of days)
          await until(async () => (await takeOutDay(store.fast, one)).kind === 'out', { what: 'the day to go' })
        dropped.push(...(await dropTakenOut(store.fast)))
      }),
    )
    await dropTakenOut(store.fast)
    expect(await storedDays(store.fast, noon + 4 * dayMs)).toEqual([])
    expect(new Set(dropped).size).toBe(16)
  })
})

describe('an operator', () => {
  /** As a replay does it: there is a delivery when there is an event. */
  const replay = (db: Db, eventId: EventId, key: string) =>
    db.query({
      text: `INSERT INTO deliveries (id, event_id, connection_id, connection_version, destination_id, source_id, seq, state, due_at, expires_at, replay_of)
        SELECT $1, e.id, $2, 1, $3, e.source_id, 1, 'pending', clock(), clock(), e.id FROM events e WHERE e.id = $4`,
      values: [deriveDeliveryId(eventId, connection, { key, nowMs: Date.now() }), connection, destination, eventId],
    })

  test.each(['retries', 'replays'] as const)('who %s something is waited for, and seen', async (what) => {
    const [event] = await addEvents(1, noon)
    if (!event) throw new Error('no event')
    const id = await addDelivery(event, 'dead')
    if (what === 'replays') {
      // Nothing of the day is left but its events.
      for (const table of ['deliveries', 'attempts']) await store.fast.query(`DELETE FROM ${table}`)
      for (const part of partitioned.slice(2)) await store.fast.query(`DROP TABLE ${partitionName(part, day)}`)
    }
    const { going } = await inTransaction(store.durable, async (db) => {
      if (what === 'retries') await retryDelivery(db, { key: 'a retry', id, maxAgeMs: hourMs })
      else await replay(db, event, 'a replay')
      const taking = takeOutDay(store.fast, day)
      await until(
        async () =>
          (
            await store.guarded.query(
              `SELECT 1 FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE c.relnamespace = '${store.schema}'::regnamespace AND NOT l.granted`,
            )
          ).rowCount,
        { what: 'retention to wait for the operator' },
      )
      return { going: taking }
    })
    expect(await going).toMatchObject({ kind: 'unfinished' })
    expect(await count('events', `id = '${event}'`)).toBe(1)
    expect(await count('event_content', `event_id = '${event}'`)).toBe(1)
  })

  test('who retries or replays while a day goes comes before it, or finds nothing', { timeout: 60_000 }, async () => {
    let tookMs = 20
    for (let n = 0; n < 12; n++) {
      const someDay = dayOf(noon) + (n % 3) * dayMs
      await ensurePartitions(store.fast, day)
      const [retried, replayed] = await addEvents(2, someDay + n)
      if (!retried || !replayed) throw new Error('no event')
      const id = await addDelivery(retried, 'dead')
      const begunMs = performance.now()
      const going = takeOutDay(store.fast, someDay).then(() => performance.now() - begunMs)
      // Each time a little later, over all of what the day before took.
      while (performance.now() - begunMs < (tookMs * n) / 10) await store.durable.query('SELECT 1')
      await Promise.all([
        retryDelivery(store.durable, { key: `retry ${n}`, id, maxAgeMs: hourMs }),
        replay(store.fast, replayed, `replay ${n}`),
      ])
      tookMs = await going
      expect(
        await count(
          'deliveries d',
          'due_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM event_content c JOIN events e ON e.id = c.event_id WHERE e.id = d.event_id)',
        ),
        'unfinished deliveries without their event',
      ).toBe(0)
      await store.fast.query(`UPDATE deliveries SET state = 'delivered', due_at = NULL WHERE due_at IS NOT NULL`)
      await until(async () => (await takeOutDay(store.fast, someDay)).kind === 'out', { what: 'the day to go' })
      await dropTakenOut(store.fast)
    }
  })
})

describe('acceptance meanwhile', () => {
  test('goes on without an error or a long wait, also behind a long reader', async () => {
    for (let n = 0; n < 4; n++) await addDay(noon + n * dayMs)
    let accepted = 0
    let slowestMs = 0
    let stop = false
    const accepting = (async () => {
      while (!stop) {
        const begun = performance.now()
        await acceptEvents(store.durable, [newEvent(source)], 5_000)
        slowestMs = Math.max(slowestMs, performance.now() - begun)
        accepted += 1
      }
    })()
    try {
      await whileRead('events', async () => {
        expect((await takeOutDay(store.fast, day)).kind).toBe('locked')
      })
      for (let n = 0; n < 4; n++)
        await until(async () => (await takeOutDay(store.fast, day + n * dayMs)).kind === 'out', {
          what: 'the day to go',
        })
      await dropTakenOut(store.fast)
    } finally {
      stop = true
      await accepting
    }
    expect(slowestMs).toBeLessThan(2_000)
    expect(await count('events')).toBe(accepted)
    expect(await count('event_content')).toBe(accepted)
  })
})
