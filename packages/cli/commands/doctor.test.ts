import { randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import type { Durability } from '@tenterhook/store/durability'
import { addSource, openTestStore, testKeys, type TestStore } from '../../../test/support/store.ts'
import { checkLines, type Check } from './doctor-check.ts'
import { checkDurability, checkPostgres } from './doctor-postgres.ts'
import { checkFile, checkRedis } from './doctor-redis.ts'
import { checkPorts, checkServices } from './doctor-services.ts'

let home: string
let store: TestStore
let url: string
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'doctor-'))
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
const surroundings = (env: Record<string, string> = {}, nowMs = Date.now) => ({
  env: { TENTERHOOK_ENCRYPTION_KEYS: keys, ...env },
  home,
  program: 'tenterhook',
  nowMs,
  monotonicMs: () => performance.now(),
})
const named = (checks: readonly Check[], name: string) => checks.find((check) => check.name === name)

describe('what an accepted event survives', () => {
  const settings = { fsync: 'on', full_page_writes: 'on', synchronous_commit: 'on', synchronous_standby_names: '' }
  const durability = (more: Partial<Durability>): Durability => ({
    serverVersion: '18',
    settings,
    survives: 'power loss',
    reasons: [],
    ...more,
  })

  test('is said without promising more', () => {
    const check = checkDurability(durability({}), undefined)
    expect(check.outcome).toBe('ok')
    expect(check.says).toMatch(
      /survives the kill of any process, and power loss.*; not the loss of this machine \(there is no synchronous standby\)/,
    )
  })

  test('on a standby names it', () => {
    const standby = { ...settings, synchronous_standby_names: 'one' }
    expect(checkDurability(durability({ survives: 'node loss', settings: standby }), undefined)).toMatchObject({
      outcome: 'ok',
      says: expect.stringContaining('on the standby one too'),
    })
  })

  test('is wrong without fsync, and to be looked at when that was accepted', () => {
    const unsafe = durability({ survives: 'process kill', reasons: ['fsync is off'] })
    expect(checkDurability(unsafe, undefined)).toMatchObject({
      outcome: 'fail',
      says: expect.stringContaining('fsync is off'),
    })
    expect(checkDurability(unsafe, 'true')).toMatchObject({ outcome: 'warn' })
  })
})

describe('Postgres', () => {
  test('in order is all ok but for the days that no router has made', async () => {
    const checks = await checkPostgres(url, surroundings())
    expect(checks.map(({ name, outcome }) => [name, outcome])).toEqual([
      ['postgres', 'ok'],
      ['durability', 'ok'],
      ['schema', 'ok'],
      ['clock', 'ok'],
      ['partitions', 'warn'],
      ['keys', 'ok'],
    ])
  })

  test('with another time than this machine’s is to be looked at', async () => {
    const checks = await checkPostgres(
      url,
      surroundings({}, () => Date.now() + 60_000),
    )
    expect(named(checks, 'clock')).toMatchObject({
      outcome: 'warn',
      says: expect.stringMatching(/^this machine's clock is (59|60)\d{3} ms ahead of Postgres's/),
    })
  })

  test('with secrets under an older key says how to re-encrypt them; with an unknown key nothing starts', async () => {
    await addSource(store, { name: 'sealed', verification: { scheme: 'github', secret: 's' } })
    const next = `k2:${randomBytes(32).toString('base64')}`
    const rotated = await checkPostgres(url, surroundings({ TENTERHOOK_ENCRYPTION_KEYS: `${next},${keys}` }))
    expect(named(rotated, 'keys')).toMatchObject({ outcome: 'warn', todo: 'tenterhook keys re-encrypt' })
    const lost = await checkPostgres(url, surroundings({ TENTERHOOK_ENCRYPTION_KEYS: next }))
    expect(named(lost, 'keys')).toMatchObject({ outcome: 'fail', says: expect.stringContaining('"k1"') })
    const none = await checkPostgres(url, surroundings({ TENTERHOOK_ENCRYPTION_KEYS: '' }))
    expect(named(none, 'keys')).toMatchObject({ outcome: 'fail', says: expect.stringContaining('is not set') })
  })

  test('without our schema, and away, are wrong in one line', async () => {
    const [, , schema, ...rest] = await checkPostgres(inject('TEST_DATABASE_URL'), surroundings())
    expect([schema, rest]).toMatchObject([{ outcome: 'fail', todo: 'tenterhook migrate' }, []])
    expect(await checkPostgres('postgres://nobody@127.0.0.1:9/x', surroundings())).toMatchObject([
      { outcome: 'fail', says: expect.stringMatching(/^Postgres at 127\.0\.0\.1:9 can't be reached: /) },
    ])
  })
})

describe('Redis', () => {
  test('as `up` starts it is ok', async () => {
    expect((await checkRedis(inject('TEST_REDIS_URL'))).map(({ outcome }) => outcome)).toEqual(['ok', 'ok'])
  })

  test('away is wrong, and no event is lost by it', async () => {
    expect(await checkRedis('redis://127.0.0.1:9')).toMatchObject([
      { outcome: 'fail', says: expect.stringContaining('events are accepted and delivered all the same') },
    ])
  })

  test('without a file is to be looked at', () => {
    expect(checkFile({ appendonly: false, appendfsync: 'no' })).toMatchObject({ outcome: 'warn' })
  })
})

describe('services and ports', () => {
  test('say what each service says of itself, and which does not answer', async () => {
    const server = createServer((_request, response) =>
      response.writeHead(503).end('{"ok":false,"phase":"ready","checks":{"postgres":"down: no"}}'),
    )
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    const at = `http://127.0.0.1:${port}`
    const state = {
      pid: process.pid,
      databaseUrl: '',
      redisUrl: '',
      ingestUrl: at,
      consoleUrl: at,
      opsUrls: { router: at, dispatcher: 'http://127.0.0.1:9' },
    }
    const checks = await checkServices(state, {
      env: { TENTERHOOK_CONSOLE_URL: at, TENTERHOOK_ADMIN_TOKEN: 'x' },
      home,
      program: 'tenterhook',
    })
    expect(checks).toMatchObject([
      { name: 'router', outcome: 'fail', says: 'ready, postgres down: no' },
      { name: 'dispatcher', outcome: 'fail', says: expect.stringContaining('does not answer') },
      { name: 'senders', outcome: 'ok' },
      { name: 'people', outcome: 'fail' },
    ])
    expect(await checkPorts({ ingest: port, console: 0, demo: 0 })).toMatchObject([
      {
        outcome: 'warn',
        says: `${port} (ingest) is in use by another program`,
        todo: 'choose another with TENTERHOOK_INGEST_PORT=…',
      },
    ])
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
})

test('a check is a line, and one more for what to do', () => {
  expect(checkLines({ outcome: 'warn', name: 'clock', says: 'late', todo: 'wind it' })).toEqual([
    'warn  clock       late',
    '                  → wind it',
  ])
})
