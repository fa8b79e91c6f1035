import { headerValues } from '@tenterhook/schemas/headers'
import type { HeaderPairs } from '@tenterhook/schemas/headers'
import type { DestinationSpec } from '@tenterhook/schemas/destination'

/**
 * Never forwarded, lower case.
 * - RFC 9110 §7.6.1: headers of one hop (and `Proxy-*`, by prefix); what frames the request, which undici writes anew.
 * - Who sent it, as a proxy in front of us saw it: a destination that believes its own proxy's headers would believe the
 *   sender's copy of them (`X-Forwarded-*` by prefix).
 * - Credentials: a sender's are for us. Those that verified the source come as a list on top.
 * - Accept-Encoding: responses are kept as they come, so they had better come readable.
 * - The trace context and our own headers: the destination gets ours.
 */
const dropped = new Set(
  `connection keep-alive te trailer transfer-encoding upgrade http2-settings
  host content-length expect
  forwarded x-real-ip x-client-ip true-client-ip cf-connecting-ip
  authorization cookie
  accept-encoding
  traceparent tracestate
  webhook-attempt webhook-sequence`.split(/\s+/),
)
const droppedPrefixes = ['proxy-', 'x-forwarded-']

/** Of a destination's own headers, only framing is ours: undici refuses or contradicts these. */
const framing = new Set([
  'connection',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'host',
  'content-length',
  'expect',
])

export type Forwarded = {
  /** The event's headers, as received. */
  received: HeaderPairs
  /** Names of the headers that carried the credential which verified the source, in any case. */
  credentials: readonly string[]
  destination: Pick<DestinationSpec, 'headers' | 'auth'>
  delivery: {
    /** The same at every attempt: what a receiver recognises a repeat by. */
    id: string
    /** From 1. */
    attempt: number
    /** The event's place in the order of acceptance (PROTOCOL §5). */
    sequence: string
  }
  /** Present when the destination's deliveries are signed. */
  signature?: { timestampSeconds: number; value: string }
  trace: { traceparent: string; tracestate?: string | undefined }
}

/**
 * The headers of a request to a destination. Each layer replaces the names of those before it: what the sender sent, less
 * what is never forwarded; the destination's fixed headers; its auth; ours.
 *
 * A provider's signature headers pass, so that the destination can check them itself. When a provider speaks Standard
 * Webhooks and the destination's deliveries are not signed by us, its `webhook-id`, `-timestamp` and `-signature` pass
 * together, for they only fit each other.
 */
export function forwardHeaders({
  received,
  credentials,
  destination,
  delivery,
  signature,
  trace,
}: Forwarded): HeaderPairs {
  const named = headerValues(received, 'connection').flatMap((value) =>
    value.split(',').map((name) => name.trim().toLowerCase()),
  )
  const refused = new Set([...credentials.map((name) => name.toLowerCase()), ...named])
  const passed = received.filter(([name, value]) => {
    const lower = name.toLowerCase()
    return (
      !dropped.has(lower) &&
      !refused.has(lower) &&
      !droppedPrefixes.some((prefix) => lower.startsWith(prefix)) &&
      isSendable(value)
    )
  })

  const fixed = Object.entries(destination.headers).filter(([name]) => !framing.has(name.toLowerCase()))
  const signedByProvider = signature === undefined && headerValues(passed, 'webhook-signature').length > 0
  const ours: [string, string][] = []
  if (!signedByProvider) ours.push(['webhook-id', delivery.id])
  if (signature !== undefined)
    ours.push(['webhook-timestamp', String(signature.timestampSeconds)], ['webhook-signature', signature.value])
  ours.push(
    ['webhook-attempt', String(delivery.attempt)],
    ['webhook-sequence', delivery.sequence],
    ['traceparent', trace.traceparent],
  )
  if (trace.tracestate !== undefined) ours.push(['tracestate', trace.tracestate])
  return layered([[['user-agent', 'tenterhook']], passed, fixed, authHeaders(destination.auth), ours])
}

/** A header that no HTTP client could write is left out, rather than holding back the event it came with. */
function isSendable(value: string): boolean {
  return !/[^\t\x20-\x7e\x80-\xff]/.test(value)
}

function authHeaders(auth: DestinationSpec['auth']): HeaderPairs {
  switch (auth.kind) {
    case 'none':
      return []
    case 'basic': // RFC 7617 §2.1: UTF-8
      return [['authorization', `Basic ${Buffer.from(`${auth.username}:${auth.password}`).toString('base64')}`]]
    case 'bearer':
      return [['authorization', `Bearer ${auth.token}`]]
    case 'header':
      return [[auth.name, auth.value]]
  }
}

/** All layers in their order; a name in a later layer removes it from every earlier one. */
function layered(layers: readonly HeaderPairs[]): HeaderPairs {
  const taken = new Set<string>()
  const kept: HeaderPairs[] = []
  for (const layer of layers.toReversed()) {
    kept.unshift(layer.filter(([name]) => !taken.has(name.toLowerCase())))
    for (const [name] of layer) taken.add(name.toLowerCase())
  }
  return kept.flat()
}
