import { readdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { headerValues } from '@tenterhook/schemas/headers'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { api } from '../support/api.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { drained } from '../support/rows.ts'
import { send } from '../support/send.ts'
import { sharedStack } from '../support/stack.ts'

/** Random text, so that finding it anywhere can't be chance. */
const secretOf = (name: string) => `${name}-${crypto.randomUUID()}`
const secrets = {
  bearer: secretOf('bearer'),
  apiKey: secretOf('api-key'),
  password: secretOf('password'),
  query: secretOf('query'),
  signing: secretOf('github'),
  destination: secretOf('destination'),
}

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.stop())

const stack = sharedStack(() => ({
  services: ['ingest', 'router', 'dispatcher', 'console'],
  env: { LOG_LEVEL: 'debug' },
  config: {
    sources: {
      bearer: { verification: { scheme: 'bearer', secret: secrets.bearer } },
      keyed: { verification: { scheme: 'api-key', header: 'X-The-Key', secret: secrets.apiKey } },
      basic: { verification: { scheme: 'basic', secret: `ada:${secrets.password}` } },
      query: { verification: { scheme: 'query', parameter: 'token', secret: secrets.query } },
      signed: { verification: { scheme: 'github', secret: secrets.signing } },
    },
    destinations: {
      all: {
        url: `${receiver.url}/base`,
        forwardPath: true,
        headers: {},
        auth: { kind: 'bearer', token: secrets.destination },
      },
    },
    connections: Object.fromEntries(
      ['bearer', 'keyed', 'basic', 'query', 'signed'].map((source) => [source, { source, destination: 'all' }]),
    ),
  },
}))

/** Every secret as it is, and as basic auth writes it. */
const forms = [...Object.values(secrets), Buffer.from(`ada:${secrets.password}`).toString('base64')]

describe('a credential that verified a source', () => {
  it('is nowhere: not in the tables, not in the logs, not in the API, not at the destination', async () => {
    for (const source of ['bearer', 'keyed', 'basic', 'query', 'signed']) {
      const accepted = await send(stack(), source, {
        headers: [['X-Custom', 'passes']],
        rest: '/sub?a=1',
        body: '{"x":1}',
      })
      expect(accepted.status, source).toBe(200)
    }
    for (const source of ['bearer', 'keyed', 'basic', 'query', 'signed'])
      expect((await send(stack(), source, { body: '{}', sign: false })).status, source).toBe(401)
    // One that is wrong is not to be kept either: it may be right elsewhere.
    expect(
      (
        await send(stack(), 'bearer', {
          headers: [['Authorization', `Bearer ${secrets.apiKey}`]],
          body: '{}',
          sign: false,
        })
      ).status,
    ).toBe(401)
    await drained(stack().store)

    const received = receiver.received()
    expect(received).toHaveLength(5)
    for (const { headers, query, path } of received) {
      expect(path).toBe('/base/sub')
      expect(query).toContain('a=1')
      expect(headerValues(headers, 'x-custom')).toEqual(['passes'])
      expect(headerValues(headers, 'authorization')).toEqual([`Bearer ${secrets.destination}`])
      expect(headerValues(headers, 'x-the-key')).toEqual([])
      const seen = JSON.stringify([headers, query])
      for (const secret of forms.filter((form) => form !== secrets.destination)) expect(seen).not.toContain(secret)
    }

    const tables = await everyTable()
    expect(
      tables.some(([, rows]) => rows.includes('{"x":1}')),
      'what is there is found',
    ).toBe(true)
    for (const [table, rows] of tables)
      for (const secret of forms) expect(rows, `the table ${table}`).not.toContain(secret)
    for (const path of [
      '/sources',
      '/destinations',
      '/connections',
      '/events',
      '/deliveries',
      '/attempts',
      '/rejections',
    ]) {
      const { status, json } = await api(stack(), 'GET', path)
      expect(status, path).toBe(200)
      for (const secret of forms) expect(JSON.stringify(json), path).not.toContain(secret)
      for (const { id } of json['data'] as { id: string }[]) {
        const one = await api(stack(), 'GET', `${path}/${id}`)
        expect(one.status, path).toBe(200)
        for (const secret of forms) expect(JSON.stringify(one.json), `${path}/${id}`).not.toContain(secret)
      }
    }
    for (const name of ['ingest', 'router', 'dispatcher', 'console']) await stack().service(name).kill('SIGTERM')
    const logs = await everyLog()
    expect(logs).toContain('event.rejected')
    for (const secret of [...forms, stack().adminToken, ...stack().keys.map(({ key }) => key.toString('base64'))])
      expect(logs).not.toContain(secret)
  })
})

/** Every row of every table as text, bytes as text too. */
async function everyTable(): Promise<[table: string, rows: string][]> {
  const { durable } = stack().store
  const { rows: tables } = await durable.query<{ name: string }>(
    `SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'`,
  )
  expect(tables.length).toBeGreaterThan(10)
  const all: [string, string][] = []
  for (const { name } of tables) {
    const { rows } = await durable.query<{ row: string }>(`SELECT t::text AS row FROM "${name}" t`)
    const text = rows.map(({ row }) => row).join('\n')
    all.push([
      name,
      text +
        text.replaceAll(/\\x((?:[0-9a-f]{2})+)/g, (_escape, hex: string) => Buffer.from(hex, 'hex').toString('latin1')),
    ])
  }
  return all
}

async function everyLog(): Promise<string> {
  const directory = dirname(stack().service('ingest').logPath)
  const texts = await Promise.all((await readdir(directory)).map((name) => readFile(join(directory, name), 'utf8')))
  return texts.join('\n')
}
