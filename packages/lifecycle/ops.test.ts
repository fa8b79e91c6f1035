import { createMetrics } from '@tenterhook/telemetry/metrics'
import { afterEach, describe, expect, test } from 'vitest'
import type { HttpServerComponent } from './http-server.ts'
import type { Check, Phase } from './ops.ts'
import { opsServer } from './ops.ts'

let server: HttpServerComponent | undefined
afterEach(async () => {
  await server?.stop(AbortSignal.abort())
  server = undefined
})

async function startOps({ checks = {}, phase = 'ready' }: { checks?: Record<string, Check>; phase?: Phase } = {}) {
  const metrics = createMetrics({ service: 'ingest' }).registry
  server = opsServer({ ops: { host: '127.0.0.1', port: 0, metrics, checks }, phase: () => phase })
  await server.start()
  const url = server.url()
  return (path: string) => fetch(`${url}${path}`)
}

const passes: Check = async () => {}
const hangs: Check = () => new Promise(() => {})

test('/metrics is Prometheus text', async () => {
  const ask = await startOps()
  const response = await ask('/metrics')
  expect(response.status).toBe(200)
  expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/)
  expect(await response.text()).toMatch(/^# TYPE tenterhook_buffered_bytes gauge$/m)
})

test.each<Phase>(['starting', 'ready', 'draining'])(
  '/livez answers while %s, whatever hangs or is down',
  async (phase) => {
    const ask = await startOps({ phase, checks: { postgres: hangs } })
    const response = await ask('/livez')
    expect({ status: response.status, body: await response.text() }).toEqual({ status: 200, body: 'ok\n' })
  },
)

describe('/readyz', () => {
  test('is green when the service is ready and each check passes', async () => {
    const ask = await startOps({ checks: { postgres: passes, redis: passes } })
    const response = await ask('/readyz?verbose')
    expect(response.status).toBe(200)
    expect(await response.json()).toEqual({ ok: true, phase: 'ready', checks: { postgres: 'ok', redis: 'ok' } })
  })

  test.each<Phase>(['starting', 'draining'])('is red while %s though each check passes', async (phase) => {
    const ask = await startOps({ phase, checks: { postgres: passes } })
    const response = await ask('/readyz')
    expect(response.status).toBe(503)
    expect(await response.json()).toEqual({ ok: false, phase, checks: { postgres: 'ok' } })
  })

  test('is red when one check fails, and names it', async () => {
    const fails: Check = () => Promise.reject(new Error('connection refused'))
    const throws: Check = () => {
      throw new Error('x'.repeat(5000))
    }
    const ask = await startOps({ checks: { postgres: passes, redis: fails, other: throws } })
    const response = await ask('/readyz')
    expect(response.status).toBe(503)
    expect(await response.json()).toEqual({
      ok: false,
      phase: 'ready',
      checks: { postgres: 'ok', redis: 'down: connection refused', other: expect.stringMatching(/^down: x{194}$/) },
    })
  })

  test('gives a check that hangs less than a second, and aborts it', async () => {
    let checked: AbortSignal | undefined
    const hangsUntilAborted: Check = (signal) => {
      checked = signal
      return hangs(signal)
    }
    const ask = await startOps({ checks: { postgres: hangsUntilAborted, redis: passes } })
    const begun = performance.now()
    const response = await ask('/readyz')
    expect(performance.now() - begun).toBeLessThan(1000)
    expect(await response.json()).toMatchObject({
      ok: false,
      checks: { postgres: 'down: no answer within 800 ms', redis: 'ok' },
    })
    expect(checked?.aborted).toBe(true)
  })
})

test('nothing else is there', async () => {
  const ask = await startOps()
  expect((await ask('/')).status).toBe(404)
  expect((await ask('/metricsx')).status).toBe(404)
})

test('metrics that fail answer 500 and leave the port working', async () => {
  const metrics = { contentType: 'text/plain', metrics: () => Promise.reject(new Error('no')) }
  server = opsServer({ ops: { host: '127.0.0.1', port: 0, metrics, checks: {} }, phase: () => 'ready' })
  await server.start()
  expect((await fetch(`${server.url()}/metrics`)).status).toBe(500)
  expect((await fetch(`${server.url()}/livez`)).status).toBe(200)
})
