import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { readConfigVersion } from '@tenterhook/store/config'
import { MigrationError } from '@tenterhook/store/migrate'
import { addSource, openTestStore, testKeys, type TestStore } from '../../../test/support/store.ts'
import { ensureEncryptionKeys, writeState } from '../local/home.ts'
import { explainDatabaseError, findDatabaseUrl, findEncryptionKeys, withStore } from './database.ts'

const program = 'npx tenterhook'
let home: string
let store: TestStore
let url: string
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'database-'))
  store = await openTestStore()
  const own = new URL(inject('TEST_DATABASE_URL'))
  own.searchParams.set('options', `-c search_path=${store.schema}`)
  url = own.href
})
afterAll(async () => {
  await store.discard()
  await rm(home, { recursive: true })
})

const keys = testKeys.map(({ id, key }) => `${id}:${key.toString('base64')}`).join(',')
const reach = (env: Record<string, string>) =>
  withStore({ env: { TENTERHOOK_ENCRYPTION_KEYS: keys, ...env }, home, program }, async (reached) => reached)

describe('the database', () => {
  test('is the one of the environment, with its keys, open while it is worked on', async () => {
    const env = { DATABASE_URL: url, TENTERHOOK_ENCRYPTION_KEYS: keys }
    const version = await withStore({ env, home, program }, (reached) => readConfigVersion(reached.store.durable))
    expect(version).toBeGreaterThan(0)
    const { store: closed } = await reach(env)
    await expect(readConfigVersion(closed.durable)).rejects.toThrow()
  })

  test('is else the running copy’s, with the keys that it keeps', async () => {
    await expect(findDatabaseUrl({ env: {}, home, program })).rejects.toMatchObject({ code: 'not_running' })
    await expect(findEncryptionKeys({ env: {}, home })).rejects.toMatchObject({ code: 'keys_unknown' })
    await ensureEncryptionKeys(home, undefined)
    await writeState(home, {
      pid: process.pid,
      databaseUrl: url,
      redisUrl: '',
      ingestUrl: '',
      consoleUrl: '',
      opsUrls: {},
    })
    expect(await findDatabaseUrl({ env: {}, home, program })).toBe(url)
    expect(await findEncryptionKeys({ env: {}, home })).toMatchObject([{ id: 'k1' }])
    await writeFile(join(home, 'encryption-keys'), 'nonsense')
    await expect(findEncryptionKeys({ env: {}, home })).rejects.toThrow(
      /^TENTERHOOK_ENCRYPTION_KEYS: expected keys such as .*; found \[redacted\]/,
    )
  })

  const broken = (change: (url: URL) => void) => {
    const other = new URL(url)
    change(other)
    return { DATABASE_URL: other.href }
  }
  test.each([
    [
      'that is away',
      () => broken((other) => (other.port = '9')),
      /^Postgres at 127\.0\.0\.1:9 can't be reached: .*ECONNREFUSED/,
    ],
    [
      'that is not there',
      () => broken((other) => (other.pathname = '/nowhere')),
      /^Postgres at 127\.0\.0\.1:\d+: database "nowhere" does not exist$/,
    ],
    [
      'with a wrong password',
      () => broken((other) => (other.password = 'wrong')),
      /^Postgres at 127\.0\.0\.1:\d+: password authentication failed/,
    ],
    ['without our schema', () => broken((other) => (other.search = '')), /run `npx tenterhook migrate`$/],
    ['that is no URL', () => ({ DATABASE_URL: 'nonsense' }), /^DATABASE_URL: expected a URL/],
  ])('%s is told in one line', async (_, env, message) => {
    await expect(reach(env())).rejects.toMatchObject({ name: 'CommandError', message: expect.stringMatching(message) })
  })

  test('whose secrets these keys don’t open is not touched', async () => {
    await addSource(store, { name: 'sealed', verification: { scheme: 'github', secret: 's' } })
    const other = `k2:${randomBytes(32).toString('base64')}`
    await expect(reach({ DATABASE_URL: url, TENTERHOOK_ENCRYPTION_KEYS: other })).rejects.toMatchObject({
      name: 'CommandError',
      message: expect.stringContaining('stored secrets need encryption key "k1"'),
    })
  })

  test('a mistake of ours keeps its stack', async () => {
    const work = withStore({ env: { DATABASE_URL: url, TENTERHOOK_ENCRYPTION_KEYS: keys }, home, program }, (reached) =>
      reached.store.durable.query('SELECT nonsense'),
    )
    await expect(work).rejects.toMatchObject({ name: 'error', code: '42703' })
  })
})

test('a migration that was changed is told with what to do', () => {
  expect(explainDatabaseError(new MigrationError('migration_changed', '1.sql was changed'), url)).toMatchObject({
    code: 'database_unusable',
    message: '1.sql was changed: use another database, or remove .tenterhook/postgres, which loses its data',
  })
})
