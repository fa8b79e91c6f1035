import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { addDestination, addSource, openTestStore, testKeys, type TestStore } from '../../test/support/store.ts'
import { readConfig, readSources } from './config.ts'
import { changeConfig, remove } from './config-change.ts'
import { countSecretsByKey, reEncryptSecrets } from './re-encrypt.ts'

let store: TestStore
beforeAll(async () => {
  store = await openTestStore()
})
afterAll(() => store.discard())

const next = { id: 'k2', key: randomBytes(32) }

test('all secrets are sealed with the first key, deleted rows’ too, and nothing else changes', async () => {
  const verification = { scheme: 'github', secret: 'very secret' } as const
  await addSource(store, { name: 'kept', verification })
  await addSource(store, { name: 'open', verification: { scheme: 'none' } })
  const gone = await addSource(store, { name: 'gone', verification })
  await addDestination(store, { name: 'crm', auth: { kind: 'bearer', token: 'very secret too' } })
  await changeConfig(store.durable, (change) => remove(change, 'source', gone))
  const before = await readConfig(store.durable, testKeys)
  const sealedBefore = [...(await countSecretsByKey(store.durable)).values()].reduce((sum, n) => sum + n, 0)

  const keys = [next, ...testKeys]
  expect(await reEncryptSecrets(store.durable, keys)).toBe(sealedBefore)
  expect(await countSecretsByKey(store.durable)).toEqual(new Map([['k2', sealedBefore]]))
  expect(await readConfig(store.durable, [next])).toEqual(before)
  expect(await readSources(store.durable, [gone], [next])).toMatchObject([
    { spec: { verification: { secrets: ['very secret'] } } },
  ])
  expect(await reEncryptSecrets(store.durable, keys)).toBe(0)
})

test('without a key that is needed, nothing is changed', async () => {
  const before = await countSecretsByKey(store.durable)
  await expect(reEncryptSecrets(store.durable, [{ id: 'k3', key: randomBytes(32) }])).rejects.toMatchObject({
    code: 'unknown_encryption_key',
  })
  expect(await countSecretsByKey(store.durable)).toEqual(before)
})
