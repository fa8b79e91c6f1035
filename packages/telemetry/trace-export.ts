import { ROOT_CONTEXT, SpanKind as OtelKind, SpanStatusCode, trace, TraceFlags } from '@opentelemetry/api'
import type { Attributes, Context, Span as OtelSpan, SpanContext } from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto'
import { defaultResource, detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources'
import {
  BatchSpanProcessor,
  SamplingDecision,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace'
import type { Sampler, SpanExporter } from '@opentelemetry/sdk-trace'
import type { Log } from './log.ts'
import type { Span, SpanAttributes, SpanKind, Tracing } from './trace.ts'
import { createTraceIds } from './trace-ids.ts'
import { formatTraceparent, parseTraceparent } from './traceparent.ts'

const queuedSpansMax = 8192
const batchSpansMax = 512
const batchDelayMs = 1000
const shutdownTimeoutMs = 2000
/** A collector that is gone gets one line in this time, however many exports fail. */
const warningIntervalMs = 60_000

/** Tracing through the OpenTelemetry SDK: batches of spans, sent as OTLP protobuf over HTTP. */
export function exportSpans({
  service,
  tracesUrl,
  sampleRatio,
  log,
  clock,
}: {
  service: string
  tracesUrl: string
  sampleRatio: number
  log: Log
  clock: { monotonicMs(): number }
}): Tracing {
  const ids = createTraceIds()
  const exporter = countingExporter({ exporter: new OTLPTraceExporter({ url: tracesUrl }), log, clock })
  const sampler = entrySampler(sampleRatio)
  const provider = new TracerProvider({
    resource: defaultResource()
      .merge(resourceFromAttributes({ 'service.name': `tenterhook-${service}` }))
      .merge(detectResources({ detectors: [envDetector] })),
    sampler,
    idGenerator: { generateTraceId: () => ids.traceId(), generateSpanId: () => ids.spanId() },
    spanProcessors: [
      new BatchSpanProcessor({
        exporter,
        maxQueueSize: queuedSpansMax,
        maxExportBatchSize: batchSpansMax,
        scheduledDelayMillis: batchDelayMs,
      }),
    ],
  })
  const tracer = provider.getTracer('tenterhook')

  return {
    enabled: true,
    startSpan: (name, { kind, parent, links = [], attributes = {} }) => {
      const span = tracer.startSpan(
        name,
        {
          kind: otelKinds[kind],
          links: links.flatMap((link) => {
            const context = spanContextOf(link)
            return context === undefined ? [] : [{ context }]
          }),
          attributes: definedAttributes(attributes),
        },
        contextUnder(spanContextOf(parent)),
      )
      return new ExportedSpan(span, exporter.admit)
    },
    newTraceparent: (parent) => {
      const traceId = parseTraceparent(parent)?.traceId ?? ids.traceId()
      return formatTraceparent({ traceId, spanId: ids.spanId(), sampled: sampler.records(traceId) })
    },
    shutdown: async () => {
      const timeout = Promise.withResolvers<void>()
      const timer = setTimeout(timeout.resolve, shutdownTimeoutMs)
      // The exporter has already reported what it could not send.
      await Promise.race([provider.shutdown().catch(() => {}), timeout.promise])
      clearTimeout(timer)
    },
  }
}

const otelKinds: Record<SpanKind, OtelKind> = {
  internal: OtelKind.INTERNAL,
  server: OtelKind.SERVER,
  client: OtelKind.CLIENT,
  producer: OtelKind.PRODUCER,
  consumer: OtelKind.CONSUMER,
}

class ExportedSpan implements Span {
  readonly traceparent: string
  readonly traceId: string
  readonly #span: OtelSpan
  readonly #admit: () => boolean
  #ended = false

  constructor(span: OtelSpan, admit: () => boolean) {
    const { traceId, spanId, traceFlags } = span.spanContext()
    this.#span = span
    this.#admit = admit
    this.traceId = traceId
    this.traceparent = formatTraceparent({ traceId, spanId, sampled: (traceFlags & TraceFlags.SAMPLED) !== 0 })
  }

  set(attributes: SpanAttributes): void {
    this.#span.setAttributes(definedAttributes(attributes))
  }

  end({ error }: { error?: string } = {}): void {
    if (this.#ended) return
    this.#ended = true
    if (!this.#span.isRecording() || !this.#admit()) return
    if (error !== undefined) this.#span.setStatus({ code: SpanStatusCode.ERROR, message: error })
    this.#span.end()
  }
}

/** The sampler of T2: the ratio decides where a trace enters, our own earlier decision everywhere else. */
function entrySampler(ratio: number): Sampler & { records(traceId: string): boolean } {
  const byTraceId = new TraceIdRatioBasedSampler(ratio)
  const records = (traceId: string) =>
    byTraceId.shouldSample(ROOT_CONTEXT, traceId).decision === SamplingDecision.RECORD_AND_SAMPLED
  return {
    records,
    shouldSample: (context, traceId, _name, kind) => {
      const above = kind === OtelKind.SERVER ? undefined : trace.getSpanContext(context)
      const sampled = above === undefined ? records(traceId) : (above.traceFlags & TraceFlags.SAMPLED) !== 0
      return { decision: sampled ? SamplingDecision.RECORD_AND_SAMPLED : SamplingDecision.NOT_RECORD }
    },
    toString: () => `EntrySampler{${ratio}}`,
  }
}

/**
 * An exporter that says, once a minute at most, how many spans were lost, and knows how many wait: the SDK's queue
 * drops what exceeds it without a word.
 */
function countingExporter({
  exporter,
  log,
  clock,
}: {
  exporter: SpanExporter
  log: Log
  clock: { monotonicMs(): number }
}): SpanExporter & { admit(): boolean } {
  let queuedSpans = 0
  let lostSpans = 0
  let quietUntilMs = Number.NEGATIVE_INFINITY

  function lose(spans: number, reason: string): void {
    lostSpans += spans
    if (clock.monotonicMs() < quietUntilMs) return
    log.warn({ event: 'tracing.spans_lost', spans: lostSpans, reason })
    lostSpans = 0
    quietUntilMs = clock.monotonicMs() + warningIntervalMs
  }

  return {
    /** Takes one more span into the count when there is room for it. */
    admit: () => {
      if (queuedSpans < queuedSpansMax) {
        queuedSpans += 1
        return true
      }
      lose(1, 'the collector is slower than the spans')
      return false
    },
    export: (spans, done) => {
      queuedSpans -= spans.length
      exporter.export(spans, (result) => {
        if (result.error !== undefined || result.code !== exportSucceeded) {
          lose(spans.length, result.error?.message ?? 'the collector refused them')
        }
        done(result)
      })
    },
    shutdown: () => exporter.shutdown(),
  }
}

/** `ExportResultCode.SUCCESS` of @opentelemetry/core, which is not a dependency for the sake of one number. */
const exportSucceeded = 0

function spanContextOf(traceparent: string | undefined): SpanContext | undefined {
  const context = parseTraceparent(traceparent)
  if (context === undefined) return undefined
  const { traceId, spanId, sampled } = context
  return { traceId, spanId, traceFlags: sampled ? TraceFlags.SAMPLED : TraceFlags.NONE, isRemote: true }
}

function contextUnder(parent: SpanContext | undefined): Context {
  return parent === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, parent)
}

function definedAttributes(attributes: SpanAttributes): Attributes {
  const defined: Attributes = {}
  for (const name in attributes) {
    const value = attributes[name]
    if (value !== undefined) defined[name] = value
  }
  return defined
}
