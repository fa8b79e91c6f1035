import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { startOtlpReceiver } from '../../test/support/otlp.ts'
import type { OtlpReceiver } from '../../test/support/otlp.ts'
import { createLogger } from './log.ts'
import type { Tracing } from './trace.ts'
import { createTracing } from './trace.ts'
import { parseTraceparent } from './traceparent.ts'

const sender = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00'
const clock = { monotonicMs: () => performance.now() }

let lines: { event: string; level: string; [field: string]: unknown }[]
let collector: OtlpReceiver

beforeEach(async () => {
  lines = []
  collector = await startOtlpReceiver()
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await collector.stop()
})

function tracingTo(
  tracesUrl: string,
  { service = 'ingest', sampleRatio = 1, monotonicMs = clock.monotonicMs } = {},
): Promise<Tracing> {
  const log = createLogger({
    service,
    level: 'debug',
    destination: { write: (line) => lines.push(JSON.parse(line)) },
  })
  return createTracing({ service, tracesUrl, sampleRatio, log, clock: { monotonicMs } })
}

describe('spans sent to a collector', () => {
  test('form one trace through three services, each the child of the one before, known to each other by traceparent only', async () => {
    const ingest = await tracingTo(`${collector.url}/v1/traces`)
    const router = await tracingTo(`${collector.url}/v1/traces`, { service: 'router' })
    const dispatcher = await tracingTo(`${collector.url}/v1/traces`, { service: 'dispatcher' })

    const server = ingest.startSpan('receive', { kind: 'server', parent: sender })
    const routeSent = ingest.startSpan('send route', { kind: 'producer', parent: server.traceparent })
    const routed = router.startSpan('process route', { kind: 'consumer', parent: routeSent.traceparent })
    const deliverySent = router.startSpan('send deliver', { kind: 'producer', parent: routed.traceparent })
    const delivered = dispatcher.startSpan('process deliver', { kind: 'consumer', parent: deliverySent.traceparent })
    const client = dispatcher.startSpan('POST', { kind: 'client', parent: delivered.traceparent })
    for (const span of [client, delivered, deliverySent, routed, routeSent, server]) span.end()
    await Promise.all([ingest.shutdown(), router.shutdown(), dispatcher.shutdown()])

    const chain = [
      ['receive', 'server', 'tenterhook-ingest'],
      ['send route', 'producer', 'tenterhook-ingest'],
      ['process route', 'consumer', 'tenterhook-router'],
      ['send deliver', 'producer', 'tenterhook-router'],
      ['process deliver', 'consumer', 'tenterhook-dispatcher'],
      ['POST', 'client', 'tenterhook-dispatcher'],
    ]
    const spans = collector.spans('4bf92f3577b34da6a3ce929d0e0e4736')
    expect(spans).toHaveLength(chain.length)
    let parentSpanId: string | undefined = '00f067aa0ba902b7'
    for (const [name, kind, service] of chain) {
      const span = spans.find((each) => each.name === name)
      expect(span).toMatchObject({ kind, service, parentSpanId, error: undefined })
      parentSpanId = span?.spanId
    }
    expect(client.traceparent).toBe(`00-4bf92f3577b34da6a3ce929d0e0e4736-${parentSpanId}-01`)
  })

  test('carry attributes, links, times and the error they ended with', async () => {
    const tracing = await tracingTo(`${collector.url}/v1/traces`)
    const other = tracing.newTraceparent()
    const beforeNs = BigInt(Date.now() - 1000) * 1_000_000n
    const span = tracing.startSpan('work', {
      kind: 'internal',
      links: [other, 'garbage'],
      attributes: { text: 'é', whole: -7, part: 0.25, yes: true, absent: undefined },
    })
    span.set({ later: 'too', absent: undefined })
    span.end({ error: 'it broke' })
    span.end()
    await tracing.shutdown()

    expect(collector.spans()).toHaveLength(1)
    const [received] = collector.spans()
    const linked = parseTraceparent(other)
    expect(received).toMatchObject({
      traceId: span.traceId,
      parentSpanId: undefined,
      attributes: { text: 'é', whole: -7, part: 0.25, yes: true, later: 'too' },
      links: [{ traceId: linked?.traceId, spanId: linked?.spanId }],
      error: 'it broke',
    })
    expect(received?.attributes).not.toHaveProperty('absent')
    expect(received?.startNs).toBeGreaterThan(beforeNs)
    expect(received?.endNs).toBeGreaterThanOrEqual(received?.startNs ?? 0n)
  })

  test('arrive without a shutdown too, a second or so later', async () => {
    const tracing = await tracingTo(`${collector.url}/v1/traces`)
    tracing.startSpan('work', { kind: 'internal' }).end()
    await vi.waitFor(() => expect(collector.spans()).toHaveLength(1), { timeout: 5000 })
    await tracing.shutdown()
  })

  test("keep the environment's headers, resource attributes and service name", async () => {
    vi.stubEnv('OTEL_EXPORTER_OTLP_HEADERS', 'x-tenant=acme,authorization=Bearer%20t')
    vi.stubEnv('OTEL_RESOURCE_ATTRIBUTES', 'deployment.environment.name=test,service.name=ignored')
    vi.stubEnv('OTEL_SERVICE_NAME', 'gateway')
    const tracing = await tracingTo(`${collector.url}/v1/traces`)
    tracing.startSpan('work', { kind: 'internal' }).end()
    await tracing.shutdown()

    expect(collector.exports()[0]).toMatchObject({ 'x-tenant': 'acme', authorization: 'Bearer t' })
    expect(collector.spans()[0]).toMatchObject({
      service: 'gateway',
      resource: { 'deployment.environment.name': 'test' },
    })
  })
})

describe('sampling', () => {
  test("is not the sender's to decide, in either direction", async () => {
    const all = await tracingTo(`${collector.url}/v1/traces`, { sampleRatio: 1 })
    const none = await tracingTo(`${collector.url}/v1/traces`, { sampleRatio: 0 })
    const wanted = sender.replace(/00$/, '01')
    expect(all.startSpan('a', { kind: 'server', parent: sender }).traceparent).toMatch(/-01$/)
    expect(none.startSpan('b', { kind: 'server', parent: wanted }).traceparent).toMatch(/-00$/)
    expect(all.newTraceparent(sender)).toMatch(/-01$/)
    expect(none.newTraceparent(wanted)).toMatch(/-00$/)
  })

  test('decided at the entry, is followed by every later span, in a service with another ratio too', async () => {
    const all = await tracingTo(`${collector.url}/v1/traces`, { sampleRatio: 1 })
    const none = await tracingTo(`${collector.url}/v1/traces`, { sampleRatio: 0 })
    const recorded = all.startSpan('entry', { kind: 'server' })
    const unrecorded = none.startSpan('entry', { kind: 'server' })
    none.startSpan('follows recorded', { kind: 'consumer', parent: recorded.traceparent }).end()
    all.startSpan('follows unrecorded', { kind: 'consumer', parent: unrecorded.traceparent }).end()
    recorded.end()
    unrecorded.end()
    await Promise.all([all.shutdown(), none.shutdown()])
    expect(
      collector
        .spans()
        .map(({ name }) => name)
        .toSorted(),
    ).toEqual(['entry', 'follows recorded'])
  })

  test('by ratio takes about that share of the traces, the same ones in every service', async () => {
    const ingest = await tracingTo(`${collector.url}/v1/traces`, { sampleRatio: 0.25 })
    const console = await tracingTo(`${collector.url}/v1/traces`, { sampleRatio: 0.25 })
    const entries = Array.from({ length: 2000 }, () => ingest.startSpan('entry', { kind: 'server' }).traceparent)
    const sampled = entries.filter((entry) => parseTraceparent(entry)?.sampled)
    // Binomial(2000, 0.25): 500 ± 19.4; six deviations are one failure in half a billion runs.
    expect(Math.abs(sampled.length - 500)).toBeLessThan(117)
    for (const entry of entries) {
      const again = console.startSpan('entry', { kind: 'server', parent: entry }).traceparent
      expect(again.slice(-2)).toBe(entry.slice(-2))
    }
  })
})

describe('a collector that fails', () => {
  test('is said once a minute with the number of spans lost, and nothing throws', async () => {
    let nowMs = 0
    let timesAsked = 0
    const monotonicMs = () => {
      timesAsked += 1
      return nowMs
    }
    collector.answerWith(400)
    const tracing = await tracingTo(`${collector.url}/v1/traces`, { monotonicMs })
    /** A loss is over when the clock was asked: twice when there is a line, once when there is none. */
    const loseTwo = async (timesAskedAfter: number) => {
      tracing.startSpan('work', { kind: 'internal' }).end()
      tracing.startSpan('work', { kind: 'internal' }).end()
      await vi.waitFor(() => expect(timesAsked).toBe(timesAskedAfter), { timeout: 5000 })
    }
    await loseTwo(2)
    await loseTwo(3)
    await loseTwo(4)
    nowMs = 60_001
    await loseTwo(6)
    expect(lines).toMatchObject([
      { level: 'warn', event: 'tracing.spans_lost', spans: 2 },
      { level: 'warn', event: 'tracing.spans_lost', spans: 6 },
    ])
    await tracing.shutdown()
  })

  test('by refusing connections holds up neither the spans nor the shutdown', async () => {
    const { url } = collector
    await collector.stop()
    const tracing = await tracingTo(`${url}/v1/traces`)
    const started = performance.now()
    for (let i = 0; i < 1000; i += 1) tracing.startSpan('work', { kind: 'internal' }).end()
    expect(performance.now() - started).toBeLessThan(1000)
    await tracing.shutdown()
    expect(performance.now() - started).toBeLessThan(4000)
    collector = await startOtlpReceiver()
  })

  test('by never answering costs bounded memory: spans past the queue are dropped and counted', async () => {
    const sockets = new Set<Socket>()
    const silent = createServer((socket) => sockets.add(socket))
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
    const tracing = await tracingTo(`http://127.0.0.1:${(silent.address() as AddressInfo).port}/v1/traces`)
    for (let i = 0; i < 10_000; i += 1) tracing.startSpan('work', { kind: 'internal' }).end()
    expect(lines).toMatchObject([{ event: 'tracing.spans_lost', spans: 1, reason: expect.stringContaining('slower') }])
    const started = performance.now()
    await tracing.shutdown()
    expect(performance.now() - started).toBeLessThan(3000)
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => silent.close(resolve))
  })
})
