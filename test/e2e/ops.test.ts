import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { answer, inTurn } from '../support/behaviours.ts'
import { metricOf } from '../support/metrics.ts'
import { until } from '../support/poll.ts'
import { startFaultProxy } from '../support/proxy.ts'
import type { FaultProxy } from '../support/proxy.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { drained } from '../support/rows.ts'
import { send } from '../support/send.ts'
import { sharedStack } from '../support/stack.ts'

let receiver: Receiver
let proxy: FaultProxy
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => {
  proxy.stop()
  return receiver.stop()
})

const services = ['ingest', 'router', 'dispatcher', 'console'] as const
const stack = sharedStack(() => ({
  services,
  config: {
    sources: { hub: { verification: { scheme: 'github', secret: 'hub-key' } } },
    destinations: { good: { url: `${receiver.url}/good` }, bad: { url: `${receiver.url}/bad` } },
    connections: {
      good: { source: 'hub', destination: 'good' },
      bad: { source: 'hub', destination: 'bad', retry: { schedule: [] } },
    },
  },
  databaseUrl: async (url) => {
    const target = new URL(url)
    proxy = await startFaultProxy({ host: target.hostname, port: Number(target.port) })
    target.port = String(proxy.port)
    return target.href
  },
}))

const push = (key: string) =>
  [
    ['X-GitHub-Event', 'push'],
    ['X-GitHub-Delivery', key],
  ] as const

describe('the ops port', () => {
  it.each(services)('of %s is alive and ready, and shows metrics that Prometheus reads', async (name) => {
    const service = stack().service(name)
    expect(await service.ops('/livez')).toEqual({ status: 200, text: 'ok\n' })
    const ready = await service.ops('/readyz')
    expect(ready.status).toBe(200)
    expect(JSON.parse(ready.text)).toMatchObject({ ok: true, phase: 'ready', checks: { postgres: 'ok' } })
    const { status, text } = await service.ops('/metrics')
    expect(status).toBe(200)
    expect(text).toMatch(/^# TYPE process_cpu_seconds_total counter$/m)
    for (const line of text.split('\n').filter((line) => line !== ''))
      expect(line).toMatch(
        /^(# (HELP|TYPE) [a-zA-Z_:][\w:]* .+|[a-zA-Z_:][\w:]*(\{([a-zA-Z_]\w*="([^"\\]|\\.)*",?)*\})? (-?[\d.e+-]+|NaN|[+-]Inf))$/,
      )
    expect((await service.ops('/else')).status).toBe(404)
  })

  it('counts what happened: accepted, duplicate, rejected, routed, attempts, dead letters, and nothing swept', async () => {
    receiver.on('/bad', inTurn(answer({ status: 500 }), answer()))
    const [ingest, router, dispatcher] = [
      stack().service('ingest'),
      stack().service('router'),
      stack().service('dispatcher'),
    ]
    for (const [key, body] of [
      ['k1', '{}'],
      ['k1', '{}'],
      ['k2', '{}'],
    ] as const)
      expect((await send(stack(), 'hub', { headers: push(key), body })).status).toBe(200)
    expect((await send(stack(), 'hub', { headers: push('k3'), body: '{}', sign: false })).status).toBe(401)
    expect((await send(stack(), 'nobody', { body: '{}', sign: false })).status).toBe(404)
    await drained(stack().store)
    const accepts = (outcome: string) => metricOf(ingest, 'tenterhook_accepts_total', { source: 'hub', outcome })
    await until(async () => (await accepts('rejected')) === 1, { what: 'the rejection to be counted' })
    expect([await accepts('accepted'), await accepts('duplicate')]).toEqual([2, 1])
    expect(await metricOf(ingest, 'tenterhook_rejections_total', { code: 'source_unknown' })).toBe(1)
    expect(await metricOf(ingest, 'tenterhook_accept_duration_seconds_count')).toBe(2)
    expect(await metricOf(ingest, 'tenterhook_buffered_bytes')).toBe(0)
    await until(async () => (await metricOf(router, 'tenterhook_events_routed_total', { outcome: 'matched' })) === 2, {
      what: 'routing to be counted',
    })
    const attempts = (destination: string, outcome: string) =>
      metricOf(dispatcher, 'tenterhook_attempts_total', { destination, outcome })
    await until(async () => (await attempts('bad', 'rejected')) === 1, { what: 'the failed attempt to be counted' })
    expect([await attempts('good', 'delivered'), await attempts('bad', 'delivered')]).toEqual([2, 1])
    expect(await metricOf(dispatcher, 'tenterhook_dead_letters_total', { destination: 'bad' })).toBe(1)
    expect(await metricOf(dispatcher, 'tenterhook_deliveries_in_flight')).toBe(0)
    expect(
      (await metricOf(router, 'tenterhook_swept_rows_total')) +
        (await metricOf(dispatcher, 'tenterhook_swept_rows_total')),
    ).toBe(0)
  })

  it('without Postgres is red and says why, and alive; then green again by itself', { timeout: 60_000 }, async () => {
    proxy.stopAccepting()
    proxy.reset()
    for (const name of services) {
      const red = await until(
        async () => {
          const seen = await stack().service(name).ops('/readyz')
          return seen.status === 503 && seen
        },
        { what: `${name} to be red` },
      )
      expect(JSON.parse(red.text), name).toMatchObject({
        ok: false,
        phase: 'ready',
        checks: { postgres: expect.stringMatching(/^down: /) },
      })
      expect((await stack().service(name).ops('/livez')).status, name).toBe(200)
    }
    await proxy.heal()
    for (const name of services)
      await until(async () => (await stack().service(name).ops('/readyz')).status === 200, {
        what: `${name} to be green`,
      })
    expect((await send(stack(), 'hub', { headers: push('after'), body: '{}' })).status).toBe(200)
  })

  it('before a Postgres that hangs is red within a second or so, and does not hang', async () => {
    proxy.blackhole()
    for (const name of services) {
      const startedMs = performance.now()
      await until(async () => (await stack().service(name).ops('/readyz')).status === 503, {
        what: `${name} to be red`,
      })
      expect(performance.now() - startedMs, name).toBeLessThan(3_000)
      expect((await stack().service(name).ops('/livez')).status, name).toBe(200)
    }
    await proxy.heal()
    for (const name of services)
      await until(async () => (await stack().service(name).ops('/readyz')).status === 200, {
        what: `${name} to be green`,
        timeoutMs: 15_000,
      })
  })

  it('without Redis stays green: nothing that is promised needs it', async () => {
    await stack().redis.kill()
    expect((await send(stack(), 'hub', { headers: push('without-redis'), body: '{}' })).status).toBe(200)
    for (const name of services) expect((await stack().service(name).ops('/readyz')).status, name).toBe(200)
    await drained(stack().store)
  })

  it('is red while its service drains', async () => {
    const router = stack().service('router')
    await router.kill('SIGTERM')
    await router.start({ env: { TENTERHOOK_DRAIN_DELAY: '2s' } })
    const stopping = router.kill('SIGTERM')
    const red = await until(
      async () => {
        const seen = await router.ops('/readyz')
        return seen.status === 503 && seen
      },
      { what: 'it to be red' },
    )
    expect(JSON.parse(red.text)).toMatchObject({ ok: false, phase: 'draining', checks: { postgres: 'ok' } })
    expect((await router.ops('/livez')).status).toBe(200)
    expect(await stopping).toEqual({ code: 0, signal: null })
  })
})
