import { expect, test } from 'vitest'
import { createMetrics } from './metrics.ts'

test('a service shows its own instruments and Node’s, and none of another service', async () => {
  const { registry } = createMetrics({ service: 'ingest' })
  const text = await registry.metrics()
  expect(text).toContain('tenterhook_accepts_total')
  expect(text).toContain('tenterhook_clock_offset_seconds')
  expect(text).toContain('nodejs_eventloop_lag_p99_seconds')
  expect(text).not.toContain('tenterhook_attempts_total')
  expect(text).not.toContain('tenterhook_swept_rows_total')
})

test('every instrument of ours is shown by some service, under our prefix and with a help text', async () => {
  const services = ['ingest', 'router', 'dispatcher', 'console'] as const
  const shown = services.flatMap((service) => createMetrics({ service }).registry.getMetricsAsArray())
  const ours = new Set(shown.map(({ name }) => name).filter((name) => name.startsWith('tenterhook_')))
  const instruments = Object.keys(createMetrics({ service: 'ingest' })).filter((key) => key !== 'registry')
  expect(ours.size).toBe(instruments.length)
  expect(shown.every(({ name, help }) => help !== '' && /^(tenterhook|nodejs|process)_/.test(name))).toBe(true)
})

test('counts show under their labels', async () => {
  const metrics = createMetrics({ service: 'dispatcher' })
  metrics.attempts.inc({ destination: 'crm', outcome: 'delivered' })
  metrics.attempts.inc({ destination: 'crm', outcome: 'delivered' }, 2)
  metrics.attemptDuration.observe(0.2)
  metrics.sweptRows.inc({ kind: 'lease' }, 4)
  const text = await metrics.registry.metrics()
  expect(text).toContain('tenterhook_attempts_total{destination="crm",outcome="delivered"} 3')
  expect(text).toContain('tenterhook_attempt_duration_seconds_bucket{le="0.25"} 1')
  expect(text).toContain('tenterhook_swept_rows_total{kind="lease"} 4')
})

test('two registries in one process do not mix', async () => {
  const one = createMetrics({ service: 'ingest' })
  const two = createMetrics({ service: 'ingest' })
  one.rejections.inc({ source: 'stripe', code: 'bad_signature' })
  expect(await one.registry.metrics()).toContain('source="stripe"')
  expect(await two.registry.metrics()).not.toContain('source="stripe"')
})

test('the 501st name counts as other, and the first 500 keep their own count', async () => {
  const metrics = createMetrics({ service: 'dispatcher' })
  for (let i = 0; i < 700; i += 1) metrics.deadLetters.inc({ destination: `d${i}`, reason: 'expired' })
  metrics.deadLetters.inc({ destination: 'd0', reason: 'expired' })
  const text = await metrics.registry.metrics()
  expect(text).toContain('{destination="d0",reason="expired"} 2')
  expect(text).toContain('{destination="d499",reason="expired"} 1')
  expect(text).toContain('{destination="other",reason="expired"} 200')
  expect(text).not.toContain('destination="d500"')
})

test('of destinations only those that are not healthy now have a series, and no more than 500', async () => {
  const { registry, destinationsNotHealthy } = createMetrics({ service: 'router' })
  const open = (count: number) => Array.from({ length: count }, (_, i) => ({ destination: `d${i}`, state: 'open' }))
  destinationsNotHealthy.show(open(700))
  const full = await registry.metrics()
  expect(full).toContain('{destination="d499",state="open"} 1')
  expect(full).toContain('{destination="other",state="open"} 200')
  destinationsNotHealthy.show([{ destination: 'd7', state: 'half_open' }])
  const rest = (await registry.metrics()).match(/^tenterhook_destination_not_healthy.*$/gm)
  expect(rest).toEqual(['tenterhook_destination_not_healthy{destination="d7",state="half_open"} 1'])
  destinationsNotHealthy.show([])
  expect(await registry.metrics()).not.toMatch(/^tenterhook_destination_not_healthy/m)
})
