import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newId } from '@tenterhook/schemas/ids'
import { connectionSpec, type ConnectionInput } from '@tenterhook/schemas/connection'
import { destinationSpec, type DestinationInput } from '@tenterhook/schemas/destination'
import { sourceSpec } from '@tenterhook/schemas/source'
import { until } from '../../test/support/poll.ts'
import { openTestStore, testKeys, type TestStore } from '../../test/support/store.ts'
import { readConfig, readConnections } from './config.ts'
import { changeConfig, putConnection, putDestination, putSource, remove } from './config-change.ts'
import { checkStore, readDurability } from './durability.ts'
import { migrate } from './migrate.ts'
import { daysAhead, ensurePartitions } from './partitions.ts'
import { checkEncryptionKeys, openSecret, sealSecret } from './secrets.ts'
import { inject } from 'vitest'

let store: TestStore
beforeAll(async () => {
  store = await openTestStore()
})
afterAll(() => store.discard())

const sourceInput = sourceSpec.parse({
  name: 'stripe',
  verification: { scheme: 'stripe', secrets: ['whsec_very_secret_1', 'whsec_very_secret_2'] },
})
const destinationInput = destinationSpec.parse({
  name: 'crm',
  url: 'https://crm.example/hooks',
  auth: { kind: 'basic', username: 'tenter', password: 'hook-password' },
  signing: { secrets: [`whsec_${Buffer.alloc(24, 3).toString('base64')}`] },
})

describe('configuration', () => {
  test('comes back as it was put, secrets included, under the next version', async () => {
    const src = newId('src', Date.now())
    const dst = newId('dst', Date.now())
    const before = await readConfig(store.durable, testKeys)
    const { version } = await changeConfig(store.durable, async (change) => {
      await putSource(change, { id: src, spec: sourceInput, managedBy: 'file' }, testKeys)
      await putDestination(change, { id: dst, spec: destinationInput, managedBy: 'file' }, testKeys)
    })
    const config = await readConfig(store.durable, testKeys)
    expect(version).toBe(before.version + 1)
    expect(config.version).toBe(version)
    expect(config.sources).toEqual([{ id: src, version: 1, managedBy: 'file', spec: sourceInput }])
    expect(config.destinations).toEqual([{ id: dst, version: 1, managedBy: 'file', spec: destinationInput }])
  })

  test('has what feeding and leasing read of a destination and a connection beside their specs, also when it goes', async () => {
    const [src, dst, con] = [newId('src', Date.now()), newId('dst', Date.now()), newId('con', Date.now())]
    const put = (destination: Partial<DestinationInput>, connection: Partial<ConnectionInput>) =>
      changeConfig(store.durable, async (change) => {
        const [name, managedBy] = ['limited', 'test']
        const spec = destinationSpec.parse({ name, url: 'https://limited.example', ...destination })
        await putDestination(change, { id: dst, spec, managedBy }, testKeys)
        const rule = connectionSpec.parse({ name, source: 'any', destination: name, ...connection })
        await putConnection(change, { id: con, spec: rule, managedBy, sourceId: src, destinationId: dst })
      })
    const read = async () => {
      const { rows } = await store.durable.query<Record<string, unknown>>({
        text: `SELECT t.tenant, t.rate_per_second, t.rate_per_minute, t.rate_per_hour, t.concurrency, n.order_skip
          FROM destinations t, connections n WHERE t.id = $1 AND n.id = $2`,
        values: [dst, con],
      })
      return Object.values(rows[0] ?? {})
    }
    await put(
      { tenant: 'acme', limits: { perSecond: 5, perHour: 1_000, concurrency: 2 } },
      { order: { by: 'body.id', onFailure: 'skip' } },
    )
    expect(await read()).toEqual(['acme', 5, null, 1_000, 2, true])
    const [connection] = await readConnections(store.durable, [con])
    expect(connection?.spec.order).toEqual({ by: 'body.id', onFailure: 'skip' })
    await put({ limits: { perMinute: 60 } }, { order: 'body.id' })
    expect(await read()).toEqual(['', null, 60, null, null, false])
    await put({}, {})
    expect(await read()).toEqual(['', null, null, null, null, false])
    await changeConfig(store.durable, async (change) => {
      await remove(change, 'connection', con)
      await remove(change, 'destination', dst)
    })
  })

  test('keeps no secret in the clear, in no table', async () => {
    const { rows } = await store.durable.query<{ dump: string }>(
      `SELECT string_agg(t.row, '') AS dump FROM (SELECT sources::text AS row FROM sources UNION ALL SELECT destinations::text FROM destinations UNION ALL SELECT config_history::text FROM config_history) t`,
    )
    for (const secret of ['very_secret', 'hook-password', Buffer.alloc(24, 3).toString('base64')])
      expect(rows[0]?.dump).not.toContain(secret)
    expect(rows[0]?.dump).toContain('tenter')
  })

  test('a change that throws leaves the version as it was', async () => {
    const before = await readConfig(store.durable, testKeys)
    await expect(
      changeConfig(store.durable, async (change) => {
        await remove(change, 'source', before.sources[0]?.id ?? '')
        throw new Error('no')
      }),
    ).rejects.toThrow('no')
    expect(await readConfig(store.durable, testKeys)).toEqual(before)
  })

  test('changes at once are serial: each gets a version of its own', async () => {
    const versions = await Promise.all(
      Array.from({ length: 8 }, () => changeConfig(store.durable, async () => {}).then((changed) => changed.version)),
    )
    expect(new Set(versions).size).toBe(8)
  })
})

describe('secrets', () => {
  const keys = [
    { id: 'k2', key: randomBytes(32) },
    { id: 'k1', key: randomBytes(32) },
  ]

  test('open with any key of the list, and seal with the first', () => {
    const old = sealSecret(keys.slice(1), 'src_a', { a: 1 })
    expect(old.startsWith('k1.')).toBe(true)
    expect(openSecret(keys, 'src_a', old)).toEqual({ a: 1 })
    expect(sealSecret(keys, 'src_a', 1).startsWith('k2.')).toBe(true)
  })

  test('moved to another row, changed, or under an unknown key: refused', () => {
    const sealed = sealSecret(keys, 'src_a', 'x')
    expect(() => openSecret(keys, 'src_b', sealed)).toThrow(expect.objectContaining({ code: 'secret_unreadable' }))
    expect(() => openSecret(keys.slice(1), 'src_a', sealed)).toThrow(
      expect.objectContaining({ code: 'unknown_encryption_key' }),
    )
    const bytes = Buffer.from(sealed.slice(3), 'base64')
    bytes[15] = (bytes[15] ?? 0) ^ 1
    expect(() => openSecret(keys, 'src_a', `k2.${bytes.toString('base64')}`)).toThrow(
      expect.objectContaining({ code: 'secret_unreadable' }),
    )
  })

  test('a key id with another key behind it is refused at start, and so is a missing key that is needed', async () => {
    await checkEncryptionKeys(store.durable, testKeys)
    await expect(checkEncryptionKeys(store.durable, [{ id: 'k1', key: randomBytes(32) }])).rejects.toMatchObject({
      code: 'encryption_key_changed',
    })
    await expect(checkEncryptionKeys(store.durable, [{ id: 'k9', key: randomBytes(32) }])).rejects.toMatchObject({
      code: 'unknown_encryption_key',
    })
  })
})

describe('the database', () => {
  test('says honestly what it survives', async () => {
    expect(await readDurability(store.durable)).toMatchObject({ survives: 'power loss' })
    await expect(checkStore(store, testKeys, false)).resolves.toMatchObject({ survives: 'power loss' })
  })

  test('migrations run once, also when several start together', async () => {
    const connectionString = inject('TEST_DATABASE_URL')
    const schema = `${store.schema}_m`
    const ran = await Promise.all([1, 2, 3].map(() => migrate({ connectionString, schema })))
    expect(ran.flat()).toEqual(['0001_init.sql', '0002_retention.sql'])
    await store.durable.query(`DROP SCHEMA ${schema} CASCADE`)
  })

  test('makes the days ahead once, and puts rows where they belong', async () => {
    const now = Date.now()
    const made = await Promise.all([1, 2, 3].map(() => ensurePartitions(store.durable, now)))
    expect(made.flat()).toHaveLength(4 * (daysAhead + 1))
    expect(await ensurePartitions(store.durable, now)).toEqual([])
    await store.durable.query({
      text: `INSERT INTO events (id, source_id, source_version, state, body_bytes, received_at) VALUES ($1, 'src', 1, 'routed', 0, now())`,
      values: [newId('evt', now)],
    })
    const { rows } = await store.durable.query<{ home: string }>('SELECT tableoid::regclass::text AS home FROM events')
    expect(rows[0]?.home).toMatch(/events_\d{8}$/)
  })

  test('leaves a day in the default partition whose first row comes while its partition is made', async () => {
    const now = Date.now() + 30 * 86_400_000
    const early = await store.durable.connect()
    await early.query('BEGIN')
    await early.query({
      text: `INSERT INTO events (id, source_id, source_version, state, body_bytes, received_at) VALUES ($1, 'src', 1, 'routed', 0, now())`,
      values: [newId('evt', now)],
    })
    const making = ensurePartitions(store.durable, now)
    await until(
      async () =>
        (
          await store.guarded.query(
            `SELECT 1 FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE c.relname = 'events_default' AND c.relnamespace = '${store.schema}'::regnamespace AND NOT l.granted`,
          )
        ).rowCount,
      { what: 'the partition to wait for the row' },
    )
    await early.query('COMMIT')
    early.release()
    expect(await making).toHaveLength(4 * (daysAhead + 1) - 1)
  })
})
