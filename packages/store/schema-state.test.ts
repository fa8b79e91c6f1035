import { afterAll, beforeAll, expect, test } from 'vitest'
import { openTestStore, type TestStore } from '../../test/support/store.ts'
import { daysAhead, ensurePartitions } from './partitions.ts'
import { countDaysAhead, readSchemaState } from './schema-state.ts'

let store: TestStore
beforeAll(async () => {
  store = await openTestStore()
})
afterAll(() => store.discard())

test('a schema is current, behind, ahead or none of ours', async () => {
  expect(await readSchemaState(store.durable)).toEqual({ kind: 'current' })
  await store.durable.query(`INSERT INTO migrations (name, checksum) VALUES ('9999_later.sql', 'x')`)
  expect(await readSchemaState(store.durable)).toEqual({ kind: 'ahead', unknown: ['9999_later.sql'] })
  await store.durable.query('DELETE FROM migrations')
  expect(await readSchemaState(store.durable)).toEqual({
    kind: 'behind',
    missing: expect.arrayContaining(['0001_init.sql']),
  })
  await store.durable.query('DROP TABLE migrations')
  expect(await readSchemaState(store.durable)).toEqual({ kind: 'absent' })
})

test('days ahead are counted up to the first gap', async () => {
  const nowMs = Date.now()
  expect(await countDaysAhead(store.durable, nowMs, 10)).toBe(0)
  await ensurePartitions(store.durable, nowMs)
  expect(await countDaysAhead(store.durable, nowMs, 10)).toBe(daysAhead + 1)
  expect(await countDaysAhead(store.durable, nowMs, 2)).toBe(2)
  expect(await countDaysAhead(store.durable, nowMs + 86_400_000, 10)).toBe(daysAhead)
})
