import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { newId } from '@tenterhook/schemas/ids'
import { openTestStore, type TestStore } from '../../test/support/store.ts'
import { trimConfigHistory, trimOld } from './trim.ts'

const nowMs = Date.now()
const cutMs = nowMs - 30 * 86_400_000

let store: TestStore
beforeAll(async () => {
  store = await openTestStore()
})
afterAll(() => store.discard())
beforeEach(() => store.durable.query('TRUNCATE duplicates, rejections, replays, config_history'))

const at = (ms: number) => new Date(ms).toISOString()

async function fill(times: readonly number[]): Promise<void> {
  for (const [i, ms] of times.entries()) {
    await store.durable.query({
      text: `INSERT INTO duplicates (id, event_id, source_id, received_at, differs) VALUES ($1, 'evt', 'src', $2, false)`,
      values: [newId('dup', ms), at(ms)],
    })
    await store.durable.query({
      text: `INSERT INTO rejections (id, at, source_name, code, status, detail, method, path, body_bytes)
        VALUES ($1, $2, 'in', 'bad', 400, '', 'POST', '', 0)`,
      values: [newId('rej', ms), at(ms)],
    })
    await store.durable.query({
      text: `INSERT INTO replays (key, kind, target_id, at, result) VALUES ($1, 'replay', 'evt', $2, '{}')`,
      values: [`k${i}`, at(ms)],
    })
  }
}

async function left(): Promise<number[]> {
  const { rows } = await store.durable.query<{ n: number }>(
    `SELECT count(*)::int AS n FROM duplicates UNION ALL SELECT count(*)::int FROM rejections UNION ALL SELECT count(*)::int FROM replays`,
  )
  return rows.map((row) => row.n)
}

test('duplicates, rejections and replays go when they are old, a batch at a time, and no others', async () => {
  await fill([cutMs - 3_000, cutMs - 2_000, cutMs - 1, cutMs, nowMs])
  expect(await trimOld(store.fast, cutMs, 2)).toBe('more')
  expect(await left()).toEqual([3, 3, 3])
  expect(await trimOld(store.fast, cutMs, 2)).toBe('done')
  expect(await left()).toEqual([2, 2, 2])
})

test('a version of the configuration goes when it was replaced long ago; the newest stays, however old', async () => {
  const versions: [id: string, version: number, ms: number][] = [
    ['src_a', 1, cutMs - 5_000],
    ['src_a', 2, cutMs - 4_000],
    ['src_a', 3, nowMs],
    ['src_b', 1, cutMs - 9_000],
  ]
  for (const [id, version, ms] of versions)
    await store.durable.query({
      text: `INSERT INTO config_history (kind, id, version, config_version, spec, at) VALUES ('source', $1, $2, 1, '{}', $3)`,
      values: [id, version, at(ms)],
    })
  expect(await trimConfigHistory(store.fast, cutMs, 100)).toBe(1)
  const { rows } = await store.durable.query<{ id: string; version: number }>(
    'SELECT id, version FROM config_history ORDER BY id, version',
  )
  expect(rows).toEqual([
    { id: 'src_a', version: 2 },
    { id: 'src_a', version: 3 },
    { id: 'src_b', version: 1 },
  ])
})
