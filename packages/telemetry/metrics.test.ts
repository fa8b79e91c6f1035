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
