import { randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { deriveDeliveryId, type DeliveryId, type EventId } from '@tenterhook/schemas/ids'
import { addConnection } from '../../test/support/store.ts'
import { cancelDelivery } from './destination-state.ts'
import { unblockStuck } from './feed.ts'
import { inTransaction } from './connect.ts'
import { lease as leaseStatement, type Leased } from './lease.ts'
import { useProtocol } from './protocol.fixture.ts'
import { recordResults } from './results.ts'
import { retryDelivery } from './retry.ts'

const { current, accept, route, lease, feedOut, result, row } = useProtocol()

/** Accepts and routes one event per key, in this order; returns the deliveries. */
async function ordered(...keys: Array<string | null>): Promise<DeliveryId[]> {
  const ids: DeliveryId[] = []
  for (const orderKey of keys) {
    const [event] = await accept(1)
    if (!event) throw new Error('no event')
    await route([event], { orderKey })
    ids.push(idOf(event))
  }
  return ids
}

function idOf(event: EventId): DeliveryId {
  return deriveDeliveryId(event, current().connection)
}

async function fedIds(max?: number): Promise<DeliveryId[]> {
  return (await feedOut(max)).admitted.map((one) => one.id)
}

async function leaseFed(): Promise<Leased[]> {
  const fed = (await feedOut()).admitted
  return lease(fed.map((one) => ({ ...one, token: randomUUID() })))
}

async function finish(one: Leased | undefined, next: Parameters<typeof result>[1]): Promise<void> {
  if (!one) throw new Error('nothing leased')
  await recordResults(current().store.fast, [result(one, next)])
}

const delivered = { kind: 'delivered', heals: false } as const
const retryInAMinute = { kind: 'retry', delayMs: 60_000 } as const

describe('an ordered connection', () => {
  test('delivers one of a key at a time, in order of acceptance, and other keys beside it', async () => {
    const [a1, a2, b1, a3, b2] = await ordered('a', 'a', 'b', 'a', 'b')
    const seen: DeliveryId[][] = []
    for (let turn = 0; turn < 3; turn++) {
      const now = await leaseFed()
      seen.push(now.map((one) => one.id).toSorted())
      expect(await fedIds()).toEqual([])
      for (const one of now) await finish(one, delivered)
    }
    expect(seen).toEqual([[a1, b1], [a2, b2], [a3]])
  })

  test('does not deliver what comes after an event of its source that is not routed yet', async () => {
    const [first, second] = await accept(2)
    if (!first || !second) throw new Error('no events')
    await route([second], { orderKey: 'a' })
    expect(await fedIds()).toEqual([])
    await route([first], { orderKey: 'a' })
    expect(await fedIds()).toEqual([idOf(first)])
  })

  test('is not held up by what has no key, nor holds it up', async () => {
    const [a1, free] = await ordered('a', null)
    const [first] = await leaseFed()
    expect(first?.id).toBe(a1)
    expect((await row(free as DeliveryId)).state).toBe('leased')
  })

  test('that holds keeps a key until its failing one succeeds or dies', async () => {
    const [a1, a2, a3] = await ordered('a', 'a', 'a')
    await finish((await leaseFed())[0], retryInAMinute)
    expect(await fedIds()).toEqual([])
    await current().store.shiftClock(60_001)
    const [again] = await leaseFed()
    expect(again?.id).toBe(a1)
    await finish(again, { kind: 'dead', reason: 'retries_used_up' })
    const [next] = await leaseFed()
    expect(next?.id).toBe(a2)
    await cancelDelivery(current().store.durable, a2 as DeliveryId)
    await finish(next, retryInAMinute)
    expect(await fedIds()).toEqual([a3])
  })

  test('that skips lets later ones pass a failing one, still one at a time', async () => {
    const { store } = current()
    await store.durable.query('UPDATE connections SET order_skip = true')
    const [a1, a2, a3] = await ordered('a', 'a', 'a')
    const [first, ...more] = await leaseFed()
    expect([first?.id, more]).toEqual([a1, []])
    expect(await fedIds()).toEqual([])
    await finish(first, retryInAMinute)
    const [second] = await leaseFed()
    expect(second?.id).toBe(a2)
    await store.shiftClock(60_001)
    // The failing one is due again, and waits for the one under way.
    expect(await fedIds()).toEqual([])
    await finish(second, delivered)
    await unblockStuck(store.fast, null, 100)
    const next = await fedIds()
    expect(next).toHaveLength(1)
    expect([a1, a3]).toContain(next[0])
  })

  test('with a long line behind one key feeds the others, and looks at each of the line once', async () => {
    const { store } = current()
    const line = await accept(300)
    await route(line, { orderKey: 'long' })
    const [other] = await ordered('other')
    expect(await fedIds(50)).toEqual([idOf(line[0] as EventId)])
    let rounds = 0
    for (let fed: DeliveryId[] = []; !fed.includes(other as DeliveryId); rounds++) fed = await fedIds(50)
    expect(rounds).toBeLessThanOrEqual(7)
    const { rows } = await store.durable.query('SELECT count(*)::int AS n FROM deliveries WHERE blocked')
    expect(rows).toEqual([{ n: 299 }])
    expect(await feedOut(50)).toMatchObject({ admitted: [], more: [] })
  })

  test('goes on behind those of a line that expired, at once', async () => {
    const { store } = current()
    const [a1] = await ordered('a')
    const [first] = await leaseFed()
    expect(first?.id).toBe(a1)
    const events = await accept(4)
    await route(events.slice(0, 3), { orderKey: 'a', maxAgeMs: 1_000 })
    await route(events.slice(3), { orderKey: 'a' })
    expect(await fedIds()).toEqual([])
    await store.shiftClock(1_001)
    await finish(first, delivered)
    const fed: DeliveryId[] = []
    for (let more = true; more;) {
      const answer = await feedOut()
      fed.push(...answer.admitted.map((one) => one.id))
      more = answer.more.length > 0
    }
    expect(fed).toEqual([idOf(events[3] as EventId)])
  })

  test('keeps to one of a key at a time also when a dead one is retried by hand', async () => {
    const { store } = current()
    const [a1] = await ordered('a', 'a')
    await finish((await leaseFed())[0], { kind: 'dead', reason: 'retries_used_up' })
    const [second] = await leaseFed()
    expect(await retryDelivery(store.durable, { key: 'k', id: a1 as DeliveryId, maxAgeMs: 60_000 })).toMatchObject({
      kind: 'retried',
    })
    expect(await feedOut()).toMatchObject({ admitted: [], more: [] })
    await finish(second, delivered)
    expect(await fedIds()).toEqual([a1])
  })

  test('finds again a key whose next delivery was left blocked', async () => {
    const { store } = current()
    const [, a2] = await ordered('a', 'a')
    await ordered('b', 'c')
    const [first] = await leaseFed()
    // As a result does that dies before it unblocks.
    await store.fast.query({
      text: `UPDATE deliveries SET state = 'delivered', admitted = false, due_at = NULL, wake_at = NULL, lease_token = NULL WHERE id = $1`,
      values: [first?.id],
    })
    expect(await fedIds()).toEqual([])
    let after = await unblockStuck(store.fast, null, 2)
    expect(after).not.toBeNull()
    while (after) after = await unblockStuck(store.fast, after, 2)
    expect(await fedIds()).toEqual([a2])
  })

  test('takes leases that wait for the disk; any other connection does not', async () => {
    const { store } = current()
    const commitOf = async (key: string | null) => {
      await ordered(key)
      const jobs = key === null ? await queued() : (await feedOut()).admitted
      return inTransaction(store.fast, async (db) => {
        const { leased } = await leaseStatement(
          db,
          jobs.map((one) => ({ ...one, token: randomUUID() })),
        )
        expect(leased).toHaveLength(1)
        const { rows } = await db.query<{ synchronous_commit: string }>({ text: 'SHOW synchronous_commit' })
        return rows[0]?.synchronous_commit
      })
    }
    expect(await commitOf('a')).toBe('on')
    expect(await commitOf(null)).toBe('off')
  })

  async function queued() {
    const { rows } = await current().store.durable.query<{ id: DeliveryId; generation: number }>(
      `SELECT id, generation FROM deliveries WHERE state = 'queued'`,
    )
    return rows
  }
})

describe('a paused connection', () => {
  test('holds its deliveries, also those in the queue, while others of its destination flow; then drains in order', async () => {
    const { store, source, destination, connection } = current()
    const other = await addConnection(store, source, destination, { name: 'other' })
    const before = await accept(1)
    const routedBefore = await route(before)
    await store.durable.query({ text: 'UPDATE connections SET paused = true WHERE id = $1', values: [connection] })
    const job = routedBefore.kind === 'routed' ? routedBefore.queued[0] : undefined
    expect(await lease([{ id: job?.id as DeliveryId, generation: 1, token: randomUUID() }])).toEqual([])
    const events = await accept(3)
    await route(events)
    const [flowing] = await accept(1)
    const otherId = deriveDeliveryId(flowing as EventId, other)
    await route([flowing as EventId], { connectionId: other, id: otherId })
    expect(await fedIds(2)).toEqual([otherId])
    await store.durable.query('UPDATE connections SET paused = false')
    expect(await fedIds(2)).toEqual([...before, ...events].slice(0, 2).map(idOf))
    expect(await fedIds()).toEqual(events.slice(1).map(idOf))
  })
})
