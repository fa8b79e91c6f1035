import { createServer } from 'node:net'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { openQueuesForBoard } from '@tenterhook/queue/board'
import { createProducer } from '@tenterhook/queue/producer'
import { newId } from '@tenterhook/schemas/ids'
import { createLogger } from '@tenterhook/telemetry/log'
import { until } from '../../test/support/poll.ts'
import { openTestDatabase, startTestConsole, type TestConsole, type TestDatabase } from './console.fixture.ts'

const log = createLogger({ service: 'test', level: 'silent' })
/** A database of Redis's own, so that its queues are empty but for ours. */
const redisUrl = `${inject('TEST_REDIS_URL').replace(/\/\d*$/, '')}/7`
const reader = openQueuesForBoard({ url: redisUrl, log })
const producer = createProducer({ url: redisUrl, log })

let database: TestDatabase
beforeAll(async () => {
  database = await openTestDatabase()
  await until(() => producer.healthy(), { what: 'Redis' })
  producer.addRoute([newId('evt', Date.now())])
  await until(async () => (await reader.queues[0]?.getWaitingCount()) === 1, { what: 'the job' })
})
afterAll(async () => {
  await reader.queues[0]?.obliterate({ force: true })
  await producer.stop(new AbortController().signal)
  await reader.close()
  await database.discard()
})

async function withConsole(
  variables: Record<string, string>,
  work: (console: TestConsole) => Promise<void>,
): Promise<void> {
  const console = await startTestConsole(database, { REDIS_URL: redisUrl, ...variables })
  try {
    await work(console)
  } finally {
    await console.stop()
  }
}

/** Every way in which Bull Board changes something, by its own list of routes. */
const changes = [
  ['PUT', '/queues/api/queues/pause'],
  ['PUT', '/queues/api/queues/resume'],
  ['POST', '/queues/api/queues/route/add'],
  ['PUT', '/queues/api/queues/route/retry/failed'],
  ['PUT', '/queues/api/queues/route/promote'],
  ['PUT', '/queues/api/queues/route/clean/waiting'],
  ['PUT', '/queues/api/queues/route/pause'],
  ['PUT', '/queues/api/queues/route/resume'],
  ['PUT', '/queues/api/queues/route/concurrency'],
  ['PUT', '/queues/api/queues/route/empty'],
  ['PUT', '/queues/api/queues/route/obliterate'],
  ['PUT', '/queues/api/queues/route/1/retry'],
  ['PUT', '/queues/api/queues/route/1/clean'],
  ['PATCH', '/queues/api/queues/route/1/update-data'],
  ['DELETE', '/queues/api/queues/route'],
] as const

function change(console: TestConsole, method: string, path: string) {
  return console.request(path, {
    method,
    headers: { Authorization: 'Bearer a-token-for-tests-only', 'Content-Type': 'application/json' },
    body: JSON.stringify({ name: 'route', data: {}, options: {} }),
  })
}

describe('the board', () => {
  test('shows all queues, and its page brings everything it needs from here', async () => {
    await withConsole({}, async (console) => {
      const page = await console.get('/queues')
      expect(page.status).toBe(200)
      expect(page.text).toContain('<base href="/queues/"')
      expect(page.headers.get('content-security-policy')).toContain("default-src 'self'")
      expect(page.headers.get('content-security-policy')).not.toMatch(/script-src|unsafe-eval|https?:/)
      const scripts = [...page.text.matchAll(/(?:src|href)="(static\/[^"]+)"/g)].map((match) => match[1] ?? '')
      expect(scripts.length).toBeGreaterThan(3)
      for (const script of scripts) expect((await console.get(`/queues/${script}`)).status, script).toBe(200)
      const { json } = await console.get('/queues/api/queues?activeQueue=route&status=waiting&page=1&jobsPerPage=10')
      expect(json['queues']).toMatchObject([
        {
          name: 'route',
          readOnlyMode: true,
          counts: { waiting: 1 },
          jobs: [{ data: { eventIds: [expect.stringMatching(/^evt_/)] } }],
        },
        { name: 'deliver', readOnlyMode: true },
        { name: 'deliver-retry', readOnlyMode: true },
        { name: 'deliver-quarantine', readOnlyMode: true },
      ])
    })
  })

  test('refuses every change while it is read-only', async () => {
    await withConsole({}, async (console) => {
      for (const [method, path] of changes) {
        const answer = await change(console, method, path)
        expect(answer, `${method} ${path}`).toMatchObject({ status: 405, json: { code: 'board_read_only' } })
      }
      expect(await reader.queues[0]?.getWaitingCount()).toBe(1)
      expect(await reader.queues[0]?.isPaused()).toBe(false)
    })
  })

  test('changes what it is asked to once it may, still by the token only', async () => {
    await withConsole({ TENTERHOOK_BOARD_WRITABLE: 'true' }, async (console) => {
      expect((await console.request('/queues/api/queues/route/pause', { method: 'PUT' })).status).toBe(401)
      expect(await reader.queues[0]?.isPaused()).toBe(false)
      expect((await change(console, 'PUT', '/queues/api/queues/route/pause')).status).toBe(200)
      expect(await reader.queues[0]?.isPaused()).toBe(true)
      expect((await change(console, 'PUT', '/queues/api/queues/route/resume')).status).toBe(200)
      expect(await reader.queues[0]?.isPaused()).toBe(false)
    })
  })
})

describe('without Redis', () => {
  test.each([
    ['that refuses connections', async () => ({ url: 'redis://127.0.0.1:1', close: () => {} })],
    ['that hangs', hangingServer],
  ])('%s the console starts, the API answers, and the board says what is wrong', async (_name, start) => {
    const redis = await start()
    try {
      await withConsole({ REDIS_URL: redis.url }, async (console) => {
        expect((await console.get('/v1/events')).status).toBe(200)
        const program = await console.get('/queues/api/queues')
        expect(program).toMatchObject({ status: 503, json: { code: 'redis_unavailable' } })
        const browser = await console.get('/queues', {
          Authorization: 'Bearer a-token-for-tests-only',
          Accept: 'text/html',
        })
        expect(browser.status).toBe(503)
        expect(browser.text).toContain('Redis can’t be reached')
        expect((await (await fetch(`${console.opsUrl}/readyz`)).json()) as object).toMatchObject({ ok: true })
      })
    } finally {
      redis.close()
    }
  })
})

/** Takes connections and never says a word. */
async function hangingServer() {
  const server = createServer(() => {}).unref()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  return { url: `redis://127.0.0.1:${port}`, close: () => server.close() }
}
