/**
 * W3C Trace Context, the `traceparent` header (https://www.w3.org/TR/trace-context/#traceparent-header):
 * `00-<trace id: 32 hex>-<parent span id: 16 hex>-<flags: 2 hex>`. It is also how a trace lives in a Postgres row.
 */
export type TraceContext = {
  /** 32 lower-case hex digits, not all zero. */
  readonly traceId: string
  /** 16 lower-case hex digits, not all zero. */
  readonly spanId: string
  /** The sampled flag. No other flag is read or written: level 1 has all others zero. */
  readonly sampled: boolean
}

const traceparentPattern = /^([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(-.*)?$/
const zeroTraceId = '0'.repeat(32)
const zeroSpanId = '0'.repeat(16)
/** A future version may append fields; what is longer than this is not a header but an attack. */
const traceparentCharsMax = 512
const sampledFlag = 0x01

/**
 * The context in a `traceparent`; undefined when it is absent or breaks the specification: upper case, all-zero ids,
 * version ff, or anything after the flags in version 00. Later versions are read by their first four fields.
 */
export function parseTraceparent(traceparent: string | undefined): TraceContext | undefined {
  if (traceparent === undefined || traceparent.length > traceparentCharsMax) return undefined
  const match = traceparentPattern.exec(traceparent)
  if (match === null) return undefined
  const [, version, traceId = '', spanId = '', flags = '', rest] = match
  if (version === 'ff' || (version === '00' && rest !== undefined)) return undefined
  if (traceId === zeroTraceId || spanId === zeroSpanId) return undefined
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & sampledFlag) !== 0 }
}

/** The version 00 `traceparent` of a context. */
export function formatTraceparent({ traceId, spanId, sampled }: TraceContext): string {
  return `00-${traceId}-${spanId}-${sampled ? '01' : '00'}`
}
