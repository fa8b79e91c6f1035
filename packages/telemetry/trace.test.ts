import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createLogger } from './log.ts'
import { createTracing } from './trace.ts'
import { parseTraceparent } from './traceparent.ts'

const sender = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
const log = createLogger({ service: 'test', level: 'silent' })
const clock = { monotonicMs: () => performance.now() }
const tracing = await createTracing({ service: 'ingest', tracesUrl: undefined, sampleRatio: 1, log, clock })

test('without a collector nothing is exported, and spans can be used all the same', async () => {
  const span = tracing.startSpan('receive', { kind: 'server', attributes: { a: 1 }, links: [sender] })
  span.set({ b: 2 })
  span.end({ error: 'no' })
  span.end()
  expect(tracing.enabled).toBe(false)
  await tracing.shutdown()
})

test("a sender's trace id is kept; its span id and sampled flag are not, since nobody here records", () => {
  const { traceparent, traceId } = tracing.startSpan('receive', { kind: 'server', parent: sender })
  expect(traceId).toBe('4bf92f3577b34da6a3ce929d0e0e4736')
  expect(parseTraceparent(traceparent)).toMatchObject({ traceId, sampled: false })
  expect(traceparent).not.toContain('00f067aa0ba902b7')
})

test('behind the entry a context is handed on as it is', () => {
  const entered = tracing.startSpan('receive', { kind: 'server', parent: sender }).traceparent
  for (const kind of ['producer', 'consumer', 'client', 'internal'] as const) {
    expect(tracing.startSpan('work', { kind, parent: entered }).traceparent).toBe(entered)
  }
})

test('what is no traceparent starts a trace of its own, each time another', () => {
  fc.assert(
    fc.property(
      fc.constantFrom('server', 'producer', 'consumer', 'client', 'internal'),
      fc.option(fc.string(), { nil: undefined }),
      (kind, parent) => {
        const first = tracing.startSpan('work', { kind, parent })
        const second = tracing.startSpan('work', { kind, parent })
        expect(parseTraceparent(first.traceparent)).toMatchObject({ traceId: first.traceId, sampled: false })
        expect(second.traceId).not.toBe(first.traceId)
      },
    ),
  )
})

test('newTraceparent stays in its parent’s trace under a new span id, or starts a trace', () => {
  expect(parseTraceparent(tracing.newTraceparent(sender))?.traceId).toBe('4bf92f3577b34da6a3ce929d0e0e4736')
  expect(tracing.newTraceparent(sender)).not.toBe(tracing.newTraceparent(sender))
  expect(parseTraceparent(tracing.newTraceparent())).toBeDefined()
  expect(parseTraceparent(tracing.newTraceparent('garbage'))).toBeDefined()
})
