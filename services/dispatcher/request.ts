import { redactedValue } from '@tenterhook/schemas/headers'
import type { Leased } from '@tenterhook/store/lease'
import type { SendOutcome } from './outcome.ts'
import type { SendRequest } from './send.ts'
import { forwardHeaders } from './forward.ts'
import { targetUrl } from './target-url.ts'
import type { Target } from './targets.ts'

export type AttemptRequest = { kind: 'request'; request: SendRequest } | Extract<SendOutcome, { kind: 'blocked' }>

/** The HTTP request of one attempt: the event's exact bytes (I5), under the destination's URL, headers, auth and signature as they stand now. */
export function requestOf({
  leased,
  body,
  target,
  traceparent,
  nowMs,
}: {
  leased: Leased
  body: Buffer
  target: Target
  traceparent: string
  nowMs: number
}): AttemptRequest {
  const { spec } = target.destination
  const url = targetUrl(spec.url, { forwardPath: spec.forwardPath, rest: leased.path, query: leased.query })
  if (url.kind === 'blocked') return { ...url, timings: { totalMs: 0 } }
  const timestampSeconds = Math.floor(nowMs / 1_000)
  const headers = forwardHeaders({
    received: leased.headers,
    // What verified the source was redacted when it was stored.
    credentials: leased.headers.flatMap(([name, value]) => (value === redactedValue ? [name] : [])),
    destination: spec,
    delivery: { id: leased.id, attempt: leased.attempt, sequence: String(leased.seq) },
    ...(target.signer && {
      signature: {
        timestampSeconds,
        value: target.signer.sign({ id: leased.id, timestampSeconds, body: body }),
      },
    }),
    trace: { traceparent },
  })
  return {
    kind: 'request',
    request: {
      destinationId: leased.destinationId,
      method: spec.method,
      url: url.url,
      headers,
      body,
      timeoutMs: target.timeoutMs,
    },
  }
}
