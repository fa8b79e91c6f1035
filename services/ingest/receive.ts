import { hash } from 'node:crypto'
import { durationMs } from '@tenterhook/schemas/duration'
import { redactedValue, type HeaderPairs } from '@tenterhook/schemas/headers'
import { newId, type EventId } from '@tenterhook/schemas/ids'
import type { Probe } from '@tenterhook/schemas/probe'
import type { NewEvent } from '@tenterhook/store/accept'
import type { FixedAnswer } from '@tenterhook/verify/row'
import type { Tracing } from '@tenterhook/telemetry/trace'
import type { BodyRead } from './body.ts'
import { dedupeKeyOf } from './dedupe-key.ts'
import type { GroupCommit } from './group-commit.ts'
import { problemAnswer, type Answer, type Refusal } from './problem.ts'
import type { CompiledSource, Sources } from './sources.ts'

/** One request to `/in/<source>`, before its body was read. */
export interface Arrival {
  sourceName: string
  method: string
  /** The raw request target from `/in/` on, as received: what URL-signing providers signed. */
  target: string
  /** What follows `/in/<source>`. */
  path: string
  query: string
  headers: HeaderPairs
  traceparent: string | undefined
  remoteAddress: string | null
  readBody: (bytesMax: number) => Promise<BodyRead>
}

/** What became of it: for the answer, the log line, the metrics and the rejections. */
export type Receipt =
  | {
      kind: 'accepted'
      answer: Answer
      source: CompiledSource
      eventId: EventId
      type: string | undefined
      bodyBytes: number
      traceparent: string
    }
  | {
      kind: 'duplicate'
      answer: Answer
      source: CompiledSource
      eventId: EventId
      differs: boolean
      bodyBytes: number
      traceparent: string
    }
  | { kind: 'handshake'; answer: Answer; source: CompiledSource }
  | { kind: 'rejected'; answer: Answer; source: CompiledSource | undefined; refusal: Refusal; bodyBytes: number }
  | { kind: 'unavailable'; answer: Answer; source: CompiledSource | undefined; reason: string }

export interface ReceiveDeps {
  publicUrl: string
  sources: Sources
  groupCommit: GroupCommit
  /** Keeps a duplicate with other bytes durably, before it is answered 2xx. */
  keepDuplicate: (firstId: EventId, duplicate: NewEvent, differs: boolean) => Promise<unknown>
  /** Puts the id on the route queue, best effort: the router's sweep covers. */
  enqueue: (eventId: EventId) => void
  tracing: Tracing
  nowMs: () => number
  random: () => number
  /** From the last byte of a request to its answer, at most. */
  answerTimeoutMs: number
  probe: Probe
}

/** Senders hang up after 3 to 10 s. Whatever Postgres does with its own timeouts, one after the other, takes longer. */
export const answerTimeoutMs = 5_000

/**
 * Find the source → read the raw bytes → verify → dedupe → commit → answer → enqueue. Nothing else happens before
 * the answer; nothing is answered 2xx before its commit (I2). Never throws.
 */
export async function receive(arrival: Arrival, deps: ReceiveDeps): Promise<Receipt> {
  const span = deps.tracing.startSpan(`receive ${arrival.sourceName}`, {
    kind: 'server',
    parent: arrival.traceparent,
    attributes: { 'http.request.method': arrival.method },
  })
  const receipt = await receiveInSpan(arrival, deps, span.traceparent)
  span.set({ 'http.response.status_code': receipt.answer.status, 'tenterhook.outcome': receipt.kind })
  span.end(receipt.kind === 'unavailable' ? { error: receipt.reason } : undefined)
  return receipt
}

async function receiveInSpan(arrival: Arrival, deps: ReceiveDeps, parent: string): Promise<Receipt> {
  let source = deps.sources.find(arrival.sourceName)
  if (!source) {
    if (!(await reloaded(deps))) return unavailable(undefined, 'configuration_unknown', deps)
    source = deps.sources.find(arrival.sourceName)
    if (!source)
      return rejected(
        undefined,
        {
          status: 404,
          code: 'source_unknown',
          detail: `there is no source named ${JSON.stringify(arrival.sourceName.slice(0, 100))}`,
        },
        0,
      )
  }
  const allowed: readonly string[] = source.spec.methods
  if (!allowed.includes(arrival.method) && !source.verifier.handshakeMethods.includes(arrival.method))
    return rejected(source, methodRefusal(arrival.method, allowed), 0)

  const read = await arrival.readBody(source.spec.bodyBytesMax)
  switch (read.kind) {
    case 'too_large':
      return rejected(
        source,
        {
          status: 413,
          code: 'body_too_large',
          detail: `this source takes bodies of at most ${source.spec.bodyBytesMax} bytes`,
        },
        source.spec.bodyBytesMax,
      )
    case 'incomplete':
      return rejected(
        source,
        { status: 400, code: 'body_incomplete', detail: 'the connection ended before the whole body had come' },
        read.bytes,
      )
    case 'no_room':
      return unavailable(source, 'buffer_full', deps)
    case 'read':
      // Its bytes are held until all is done with them, also when the answer was given before.
      return inTime(
        receiveBody(arrival, read.body, source, allowed, deps, parent).finally(read.release),
        () => unavailable(source, 'answer_timeout', deps),
        deps.answerTimeoutMs,
      )
  }
}

async function receiveBody(
  arrival: Arrival,
  body: Buffer,
  source: CompiledSource,
  allowed: readonly string[],
  deps: ReceiveDeps,
  parent: string,
): Promise<Receipt> {
  const request = { method: arrival.method, url: deps.publicUrl + arrival.target, headers: arrival.headers, body }
  let verdict = source.verifier.verify(request, deps.nowMs())
  if (verdict.kind === 'rejected') {
    // Its secret may have been rotated a moment ago.
    if (!(await reloaded(deps))) return unavailable(source, 'configuration_unknown', deps)
    const current = deps.sources.find(arrival.sourceName)
    if (current && current !== source) {
      source = current
      verdict = source.verifier.verify(request, deps.nowMs())
    }
  }
  if (verdict.kind === 'handshake') return { kind: 'handshake', answer: verdict.response, source }
  if (verdict.kind === 'rejected') {
    const refusal: Refusal = { status: 401, code: verdict.code, detail: verdict.detail, headers: challengeOf(source) }
    const receipt = rejected(source, refusal, body.length)
    const provider = source.verifier.refusal
    return provider ? { ...receipt, answer: fixedAnswer(provider) } : receipt
  }
  // Only now: a handshake that was refused must tell its reason, and not that its method is wrong.
  if (!allowed.includes(arrival.method)) return rejected(source, methodRefusal(arrival.method, allowed), body.length)

  const producer = deps.tracing.startSpan('send route', { kind: 'producer', parent })
  const event = newEvent(arrival, body, source, verdict, producer.traceparent, deps.nowMs())
  const outcome = await deps.groupCommit.submit(event)
  switch (outcome.kind) {
    case 'accepted':
      deps.probe('ingest.after_commit')
      deps.enqueue(event.id)
      producer.end()
      return {
        kind: 'accepted',
        answer: acceptance(source, event.id),
        source,
        eventId: event.id,
        type: verdict.type,
        bodyBytes: body.length,
        traceparent: producer.traceparent,
      }
    case 'duplicate': {
      const kept = deps.keepDuplicate(outcome.firstId, event, outcome.differs).then(
        () => true,
        () => false,
      )
      // Other bytes are worth as much as a new event: no yes before they are kept.
      if (outcome.differs && !(await kept)) return unavailable(source, 'commit_failed', deps)
      return {
        kind: 'duplicate',
        answer: acceptance(source, outcome.firstId, true),
        source,
        eventId: outcome.firstId,
        differs: outcome.differs,
        bodyBytes: body.length,
        traceparent: producer.traceparent,
      }
    }
    case 'refused':
      return rejected(
        source,
        { status: 500, code: 'event_not_storable', detail: `the event can't be stored: ${outcome.detail}` },
        body.length,
      )
    case 'unavailable':
      return unavailable(source, outcome.reason, deps)
  }
}

function newEvent(
  arrival: Arrival,
  body: Buffer,
  source: CompiledSource,
  verdict: { dedupeKey?: string | undefined; type?: string | undefined },
  traceparent: string,
  nowMs: number,
): NewEvent {
  const key = dedupeKeyOf(source.spec.dedupe.by, { dedupeKey: verdict.dedupeKey, headers: arrival.headers, body })
  return {
    id: newId('evt', nowMs),
    sourceId: source.id,
    sourceVersion: source.version,
    keyHash: key === undefined ? null : hash('sha256', key, 'buffer'),
    bodyHash: key === undefined ? null : hash('sha256', body, 'buffer'),
    dedupeWindowMs: durationMs(source.spec.dedupe.window),
    type: storableText(verdict.type),
    method: arrival.method,
    path: arrival.path,
    query: redactQuery(arrival.query, source.verifier.credentials.query),
    headers: JSON.stringify(redactHeaders(arrival.headers, source.verifier.credentials.headers)),
    body,
    traceparent,
    remoteAddress: arrival.remoteAddress,
    receivedAtMs: nowMs,
  }
}

/** Postgres's text holds no NUL, and a type is for reading: without control characters, and not endless. */
function storableText(text: string | undefined): string | null {
  // oxlint-disable-next-line no-control-regex
  return text === undefined ? null : text.replace(/[\u0000-\u001f]/g, '').slice(0, 200)
}

function redactHeaders(headers: HeaderPairs, credentials: readonly string[]): HeaderPairs {
  if (credentials.length === 0) return headers
  const secret = new Set(credentials.map((name) => name.toLowerCase()))
  return headers.map(([name, value]) => [name, secret.has(name.toLowerCase()) ? redactedValue : value] as const)
}

/** Replaces credential values and leaves every other byte of the query as it came. */
function redactQuery(query: string, credentials: readonly string[]): string {
  if (credentials.length === 0 || query === '') return query
  return query
    .split('&')
    .map((pair) => {
      const name = pair.split('=', 1)[0] ?? ''
      // As the verifier reads it: decoded, or an escaped name would carry its secret past this.
      const [read] = [...new URLSearchParams(name).keys()]
      return credentials.includes(read ?? '') ? `${name}=${redactedValue}` : pair
    })
    .join('&')
}

function acceptance(source: CompiledSource, eventId: EventId, duplicate = false): Answer {
  const own = source.spec.response
  const provider = source.verifier.acceptance
  const id = JSON.stringify(duplicate ? { id: eventId, duplicate: true } : { id: eventId })
  if (own) return { status: own.status, headers: [['Content-Type', own.contentType]], body: own.body ?? id }
  if (provider) return fixedAnswer(provider)
  return { status: 200, headers: [['Content-Type', 'application/json']], body: id }
}

/** RFC 9110 §11.6.1: a 401 says how to authenticate; some senders show their credentials only then. */
function challengeOf(source: CompiledSource): HeaderPairs {
  const { scheme } = source.spec.verification
  if (scheme === 'basic' || scheme === 'postmark')
    return [['WWW-Authenticate', `Basic realm="${source.spec.name}", charset="UTF-8"`]]
  if (scheme === 'bearer') return [['WWW-Authenticate', 'Bearer']]
  return []
}

function fixedAnswer({ status, contentType, body }: FixedAnswer): Answer {
  return { status, headers: contentType === '' ? [] : [['Content-Type', contentType]], body }
}

function methodRefusal(method: string, allowed: readonly string[]): Refusal {
  return {
    status: 405,
    code: 'method_not_allowed',
    detail: `this source takes ${allowed.join(', ')}, not ${method}`,
    headers: [['Allow', allowed.join(', ')]],
  }
}

function rejected(source: CompiledSource | undefined, refusal: Refusal, bodyBytes: number): Receipt {
  return { kind: 'rejected', answer: problemAnswer(refusal), source, refusal, bodyBytes }
}

/** Senders that were refused together should not return together. */
const retryAfterSeconds = { least: 1, spread: 4 }

function unavailable(source: CompiledSource | undefined, reason: string, deps: ReceiveDeps): Receipt {
  const seconds = retryAfterSeconds.least + Math.floor(deps.random() * (retryAfterSeconds.spread + 1))
  return {
    kind: 'unavailable',
    source,
    reason,
    answer: problemAnswer({
      status: 503,
      code: reason,
      detail: 'the event was not accepted and is not promised to be kept: send it again',
      headers: [['Retry-After', String(seconds)]],
    }),
  }
}

async function reloaded(deps: ReceiveDeps): Promise<boolean> {
  const reloading = deps.sources.reload().then(
    () => true,
    () => false,
  )
  return inTime(reloading, () => false, deps.answerTimeoutMs / 2)
}

/** The work's result, or `late` when it takes longer; the work goes on, and what it becomes was promised to nobody. */
async function inTime<T>(work: Promise<T>, late: () => T, timeoutMs: number): Promise<T> {
  const timedOut = Promise.withResolvers<T>()
  const timer = setTimeout(() => timedOut.resolve(late()), timeoutMs)
  try {
    return await Promise.race([work, timedOut.promise])
  } finally {
    clearTimeout(timer)
  }
}
