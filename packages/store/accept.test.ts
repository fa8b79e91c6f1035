import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { SourceId } from '@tenterhook/schemas/ids'
import { addSource, newEvent, openTestStore, type TestStore } from '../../test/support/store.ts'
import { acceptEvents, isRowError } from './accept.ts'
import { duplicatesPerEventMax, keepDuplicate, trimDedupe } from './duplicates.ts'
import { newId } from '@tenterhook/schemas/ids'

let store: TestStore
let source: SourceId
beforeAll(async () => {
  store = await openTestStore()
  source = await addSource(store, { name: 'in' })
})
afterAll(() => store.discard())

const countEvents = async () =>
  (await store.durable.query<{ n: number }>('SELECT count(*)::int AS n FROM events')).rows[0]?.n

describe('accepting', () => {
  test('keeps every byte, in order of arrival', async () => {
    const bodies = [Buffer.from([0, 255, 0, 128, 10]), Buffer.alloc(0), Buffer.alloc(1_048_576, 0x5c)]
    const batch = bodies.map((body) =>
      newEvent(source, {
        body,
        headers: JSON.stringify([
          ['X-Odd', '\u0000"\\{}'],
          ['x-odd', 'ÿ'],
        ]),
      }),
    )
    expect(await acceptEvents(store.durable, batch, 5_000)).toEqual(batch.map(() => ({ kind: 'accepted' })))
    const { rows } = await store.durable.query<{ body: Buffer; headers: string }>({
      text: 'SELECT c.body, c.headers FROM events e JOIN event_content c ON c.event_id = e.id WHERE e.id = ANY($1) ORDER BY e.seq',
      values: [batch.map((event) => event.id)],
    })
    expect(rows.map((row) => row.body.equals(bodies[rows.indexOf(row)] ?? Buffer.from('other')))).toEqual([
      true,
      true,
      true,
    ])
    expect(rows[0]?.headers).toBe(batch[0]?.headers)
  })

  test('a key seen before is a duplicate of the first, also when the copies race', async () => {
    const before = await countEvents()
    const copies = Array.from({ length: 100 }, () => newEvent(source, { key: 'same' }))
    const outcomes = await Promise.all(copies.map((copy) => acceptEvents(store.durable, [copy], 5_000)))
    const accepted = outcomes.flat().filter((outcome) => outcome.kind === 'accepted')
    const firstIds = new Set(
      outcomes.flat().flatMap((outcome) => (outcome.kind === 'duplicate' ? [outcome.firstId] : [])),
    )
    expect(accepted).toHaveLength(1)
    expect(firstIds).toEqual(new Set([copies[outcomes.findIndex((outcome) => outcome[0]?.kind === 'accepted')]?.id]))
    expect(await countEvents()).toBe((before ?? 0) + 1)
  })

  test('the same key at another source is no duplicate', async () => {
    const other = await addSource(store, { name: 'other' })
    expect(await acceptEvents(store.durable, [newEvent(other, { key: 'same' })], 5_000)).toEqual([{ kind: 'accepted' }])
  })

  test('batches that hold the same keys in opposite order do not deadlock', async () => {
    const keys = Array.from({ length: 40 }, (_, i) => `cross-${i}`)
    const rounds = await Promise.all(
      Array.from({ length: 12 }, (_, i) =>
        acceptEvents(
          store.durable,
          (i % 2 ? keys : keys.toReversed()).map((key) => newEvent(source, { key })),
          5_000,
        ),
      ),
    )
    expect(rounds.flat().filter((outcome) => outcome.kind === 'accepted')).toHaveLength(keys.length)
  })

  test('a key may return after its window, and expired keys are trimmed', async () => {
    await acceptEvents(store.durable, [newEvent(source, { key: 'window', dedupeWindowMs: 60_000 })], 5_000)
    await store.shiftClock(60_001)
    expect(
      await acceptEvents(store.durable, [newEvent(source, { key: 'window', dedupeWindowMs: 60_000 })], 5_000),
    ).toEqual([{ kind: 'accepted' }])
    await store.shiftClock(60_001)
    expect(await trimDedupe(store.fast, 1_000)).toBeGreaterThan(0)
  })

  test('data that Postgres refuses is a row error, and nothing of its batch is kept', async () => {
    const before = await countEvents()
    const failed = acceptEvents(store.durable, [newEvent(source), newEvent(source, { type: 'a\u0000b' })], 5_000)
    await expect(failed).rejects.toSatisfy(isRowError)
    expect(await countEvents()).toBe(before)
    expect(isRowError(Object.assign(new Error('x'), { code: '57P01' }))).toBe(false)
    // A partition was attached between planning and inserting: no fault of the request.
    expect(isRowError(Object.assign(new Error('x'), { code: '23514' }))).toBe(false)
    expect(isRowError(Object.assign(new Error('x'), { code: 'ECONNRESET' }))).toBe(false)
  })

  test('duplicates with other bytes are kept whole, and no more of them than the bound', async () => {
    const [first] = [newEvent(source, { key: 'kept', body: Buffer.from('one') })]
    await acceptEvents(store.durable, [first], 5_000)
    const kept = []
    for (let i = 0; i < duplicatesPerEventMax + 5; i++) {
      kept.push(
        await keepDuplicate(
          store.durable,
          newId('dup', Date.now()),
          first.id,
          newEvent(source, { key: 'kept', body: Buffer.from(`other ${i}`) }),
          true,
        ),
      )
    }
    expect(kept.filter(Boolean)).toHaveLength(duplicatesPerEventMax)
    const { rows } = await store.durable.query<{ body: Buffer }>({
      text: 'SELECT body FROM duplicates WHERE event_id = $1 ORDER BY id LIMIT 1',
      values: [first.id],
    })
    expect(rows[0]?.body.toString()).toBe('other 0')
  })
})
