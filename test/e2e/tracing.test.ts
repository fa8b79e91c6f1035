import { randomBytes } from 'node:crypto'
import { soleHeader } from '@tenterhook/schemas/headers'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { failing } from '../support/behaviours.ts'
import { startOtlpReceiver } from '../support/otlp.ts'
import type { OtlpReceiver, ReceivedSpan } from '../support/otlp.ts'
import { until } from '../support/poll.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { drained } from '../support/rows.ts'
import { send } from '../support/send.ts'
import { sharedStack } from '../support/stack.ts'
import type { Stack, StackOptions } from '../support/stack.ts'

let receiver: Receiver
let collector: OtlpReceiver
beforeAll(async () => {
  receiver = await startReceiver()
  collector = await startOtlpReceiver()
})
afterAll(() => Promise.all([receiver.stop(), collector.stop()]))

const options = (): StackOptions => ({
  env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url },
  config: {
    sources: { hub: { verification: { scheme: 'none' } }, flaky: { verification: { scheme: 'none' } } },
    destinations: {
      one: { url: `${receiver.url}/one` },
      two: { url: `${receiver.url}/two` },
      flaky: { url: `${receiver.url}/flaky` },
    },
    connections: {
      one: { source: 'hub', destination: 'one' },
      two: { source: 'hub', destination: 'two' },
      flaky: { source: 'flaky', destination: 'flaky', retry: { schedule: ['200ms', '200ms'] } },
    },
  },
})

const newTraceId = () => randomBytes(16).toString('hex')

async function spansOf(traceId: string, count: number): Promise<readonly ReceivedSpan[]> {
  return until(() => collector.spans(traceId).length >= count && collector.spans(traceId), {
    what: `${count} spans of the trace`,
  })
}

function only(spans: readonly ReceivedSpan[], is: (span: ReceivedSpan) => boolean, what: string): ReceivedSpan {
  const [found, ...more] = spans.filter(is)
  if (found === undefined || more.length > 0)
    throw new Error(
      `${found === undefined ? 'no' : more.length + 1} ${what} among ${JSON.stringify(spans.map(({ kind, name }) => [kind, name]))}`,
    )
  return found
}

/** The span's ancestors, itself first, as `service kind`. */
function lineage(span: ReceivedSpan, spans: readonly ReceivedSpan[]): string[] {
  const parent = spans.find(({ spanId }) => spanId === span.parentSpanId)
  return [`${span.service} ${span.kind}`, ...(parent === undefined ? [] : lineage(parent, spans))]
}

const way = [
  'tenterhook-dispatcher client',
  'tenterhook-dispatcher consumer',
  'tenterhook-router producer',
  'tenterhook-router consumer',
  'tenterhook-ingest producer',
  'tenterhook-ingest server',
]

/** One trace from the sender to both destinations, every span under its cause. */
async function provesOneTrace(stack: () => Stack, sampledFlag: '00' | '01'): Promise<void> {
  const traceId = newTraceId()
  const senderSpan = randomBytes(8).toString('hex')
  receiver.clear()
  const accepted = await send(stack(), 'hub', {
    headers: [
      ['traceparent', `00-${traceId}-${senderSpan}-${sampledFlag}`],
      ['tracestate', 'vendor=1'],
    ],
    body: '{}',
  })
  expect(accepted.status).toBe(200)
  const spans = await spansOf(traceId, 9)
  expect(spans).toHaveLength(9)
  for (const path of ['/one', '/two']) {
    const [, trace, span] = (soleHeader(receiver.received(path)[0]?.headers ?? [], 'traceparent') ?? '').split('-')
    expect(trace).toBe(traceId)
    const client = only(spans, ({ spanId }) => spanId === span, `span that ${path} was told of`)
    expect(lineage(client, spans)).toEqual(way)
    expect(client.attributes['http.response.status_code']).toBe(200)
    expect(client.error).toBeUndefined()
  }
  const server = only(spans, ({ kind }) => kind === 'server', 'server span')
  expect(server.parentSpanId).toBe(senderSpan)
  for (const span of spans) expect(span.endNs >= span.startNs, span.name).toBe(true)
}

describe('tracing', () => {
  const stack = sharedStack(options)

  it.each(['01', '00'] as const)(
    'one trace, from the sender’s traceparent (flag %s) over both queues to each destination',
    async (flag) => {
      await provesOneTrace(stack, flag)
    },
  )

  it('a request without a traceparent, or with one that isn’t, begins a trace of its own', async () => {
    for (const headers of [
      [],
      [['traceparent', '00-00000000000000000000000000000000-0000000000000000-01']],
      [['traceparent', 'nonsense']],
    ] as const) {
      receiver.clear()
      await send(stack(), 'hub', { headers, body: '{}' })
      await until(() => receiver.count() === 2, { what: 'both deliveries' })
      const traceIds = receiver
        .received()
        .map((one) => (soleHeader(one.headers, 'traceparent') ?? '').split('-')[1] ?? '')
      expect(new Set(traceIds).size).toBe(1)
      expect(traceIds[0]).toMatch(/^(?!0{32})[0-9a-f]{32}$/)
      const spans = await spansOf(traceIds[0] ?? '', 9)
      expect(only(spans, ({ kind }) => kind === 'server', 'server span').parentSpanId).toBeUndefined()
    }
  })

  it('each attempt is a span of its own in the same trace, failed ones marked as such', async () => {
    const traceId = newTraceId()
    receiver.clear()
    receiver.on('/flaky', failing(2))
    await send(stack(), 'flaky', { headers: [['traceparent', `00-${traceId}-${'ab'.repeat(8)}-01`]], body: '{}' })
    await drained(stack().store)
    const spans = await spansOf(traceId, 10)
    const clients = spans.filter(({ kind }) => kind === 'client')
    expect(clients.map(({ error }) => error !== undefined).toSorted((a, b) => Number(b) - Number(a))).toEqual([
      true,
      true,
      false,
    ])
    for (const client of clients) expect(lineage(client, spans)).toEqual(way)
    const told = receiver.received('/flaky').map(({ headers }) => soleHeader(headers, 'traceparent')?.split('-')[2])
    expect(told.toSorted()).toEqual(clients.map(({ spanId }) => spanId).toSorted())
  })

  it('a refused request is a failed trace of one span', async () => {
    const traceId = newTraceId()
    await send(stack(), 'nobody', {
      headers: [['traceparent', `00-${traceId}-${'cd'.repeat(8)}-01`]],
      body: '{}',
      sign: false,
    })
    const [span] = await spansOf(traceId, 1)
    expect(span).toMatchObject({
      kind: 'server',
      attributes: { 'http.response.status_code': 404, 'tenterhook.outcome': 'rejected' },
    })
  })

  it('a collector that refuses, then is gone, costs nothing but the spans', async () => {
    collector.answerWith(503)
    receiver.clear()
    await send(stack(), 'hub', { body: '{}' })
    await until(() => receiver.count() === 2, { what: 'both deliveries' })
    collector.answerWith(200)
  })
})

describe('tracing without Redis', () => {
  const stack = sharedStack(() => ({ ...options(), redis: 'never' }))

  it('is the same trace over the sweepers’ way: its context lives in the rows', async () => {
    await provesOneTrace(stack, '01')
  })
})
