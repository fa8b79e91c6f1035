import type { Log } from './log.ts'
import { createTraceIds } from './trace-ids.ts'
import { formatTraceparent, parseTraceparent } from './traceparent.ts'

/**
 * Tracing as the services see it: a span is named, has a kind and a parent, and is known to the outside by its
 * `traceparent`, which is all that crosses a queue, a Postgres row or the network.
 *
 * T1. A valid `traceparent` of a sender keeps its trace id, from the sender's request to the destination's (I9).
 * T2. Sampling is ours: decided where a trace enters (a `server` span, or a span without a parent) by the ratio alone,
 *     whatever a sender's flag says, and followed by every span after it.
 * T3. Nothing here blocks, throws or grows when the collector is slow or gone.
 */
export type Tracing = {
  /** Whether spans are exported; false means that only trace contexts are passed on. */
  readonly enabled: boolean
  startSpan(name: string, options: SpanOptions): Span
  /** A `traceparent` for work that has no span of its own: of the parent's trace when it is valid, else of a new one. */
  newTraceparent(parent?: string): string
  /** Sends what is waiting, for at most two seconds. */
  shutdown(): Promise<void>
}

export type SpanKind = 'internal' | 'server' | 'client' | 'producer' | 'consumer'

export type SpanOptions = {
  readonly kind: SpanKind
  /** The `traceparent` of the span that caused this one. Absent or malformed starts a new trace. */
  readonly parent?: string | undefined
  /** `traceparent`s of other traces this span works for, as a batch does. Malformed ones are left out. */
  readonly links?: readonly string[]
  readonly attributes?: SpanAttributes
}

export type SpanAttributes = Readonly<Record<string, string | number | boolean | undefined>>

export type Span = {
  readonly traceparent: string
  readonly traceId: string
  set(attributes: SpanAttributes): void
  /** Ends the span, as failed when there is an error; further calls do nothing. */
  end(outcome?: { error?: string }): void
}

/**
 * Tracing that exports spans by OTLP to `tracesUrl`, or only passes contexts on when there is none: then no SDK is
 * even loaded. The rest of the exporter's settings (`OTEL_EXPORTER_OTLP_HEADERS`, `_TIMEOUT`, `_COMPRESSION`,
 * `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME`) is read by the OpenTelemetry SDK itself.
 */
export async function createTracing({
  service,
  tracesUrl,
  sampleRatio,
  log,
  clock,
}: {
  service: string
  tracesUrl: string | undefined
  /** Share of the traces that is recorded, 0 to 1. */
  sampleRatio: number
  log: Log
  clock: { monotonicMs(): number }
}): Promise<Tracing> {
  if (tracesUrl === undefined) return contextOnly()
  const { exportSpans } = await import('./trace-export.ts')
  return exportSpans({ service, tracesUrl, sampleRatio, log, clock })
}

/** Passes contexts on. A sender's span gets a child in name, unsampled since nobody records it; ours pass unchanged. */
function contextOnly(): Tracing {
  const ids = createTraceIds()

  function enter(parent: string | undefined): string {
    const traceId = parseTraceparent(parent)?.traceId ?? ids.traceId()
    return formatTraceparent({ traceId, spanId: ids.spanId(), sampled: false })
  }

  return {
    enabled: false,
    startSpan: (_name, { kind, parent }) => {
      const ours = kind !== 'server' && parent !== undefined && parseTraceparent(parent) !== undefined
      return new ContextSpan(ours ? parent : enter(parent))
    },
    newTraceparent: enter,
    shutdown: async () => {},
  }
}

class ContextSpan implements Span {
  readonly traceparent: string
  constructor(traceparent: string) {
    this.traceparent = traceparent
  }
  get traceId(): string {
    return this.traceparent.slice(3, 35)
  }
  set(): void {}
  end(): void {}
}
