/**
 * One HTTP try: guard → socket → request → response, within one deadline.
 *
 * It owns the sockets (sockets.ts) and the attempts under way. What it refuses: to follow redirects, to inflate bodies,
 * to send anything twice. A request is written again only if not a byte of it was written before: when a kept socket
 * turns out to have been closed by the other side.
 */
import type { HeaderPairs } from '@tenterhook/schemas/headers'
import { errors } from 'undici'
import { createConnector } from './connect.ts'
import type { Target } from './connect.ts'
import { exchange } from './exchange.ts'
import type { Exchange } from './exchange.ts'
import { hostOf } from './guard.ts'
import type { Guard } from './guard.ts'
import type { ConnectTimings, SendOutcome, Timings, UnreachableCode } from './outcome.ts'
import type { Resolver } from './resolve.ts'
import { createSockets, destroyLine } from './sockets.ts'
import type { Line, Place } from './sockets.ts'

export type SendRequest = {
  /** Whose share of the sockets is used. */
  destinationId: string
  method: string
  url: string
  /** Without Host, Content-Length and hop-by-hop headers: forward.ts leaves them out. */
  headers: HeaderPairs
  body: Buffer
  /** The whole attempt, from having a socket or the right to open one to the end of the response body. */
  timeoutMs: number
}

export type Sender = {
  /**
   * Never throws for anything that a destination, a network or a request does. Waits for a socket for a bounded time,
   * apart from `timeoutMs`.
   */
  send(request: SendRequest, options?: SendOptions): Promise<SendOutcome>
  /** Takes nothing new, and settles when the attempts under way have ended. */
  close(): Promise<void>
  /** Breaks off the attempts under way: `abandoned` if nothing was written, else `unreachable`. */
  destroy(): void
}

export type SendOptions = {
  /** Breaks the attempt off, as destroy() does for all. */
  signal?: AbortSignal
  /** Asked in the same turn of the event loop in which the request is written; "no" sends nothing. */
  beforeFirstByte?: () => boolean
}

export type SenderOptions = {
  guard: Guard
  resolver: Resolver
  monotonicMs: () => number
  connectTimeoutMs?: number
  /** All sockets to destinations, idle ones included: some more than attempts, or each would close another's idle one. */
  socketsMax: number
  /** A destination's share of attempts. */
  socketsPerDestinationMax: number
  socketWaitTimeoutMs?: number
}

export function createSender({
  guard,
  resolver,
  monotonicMs,
  connectTimeoutMs = 3_000,
  socketsMax,
  socketsPerDestinationMax,
  socketWaitTimeoutMs = 5_000,
}: SenderOptions): Sender {
  const connect = createConnector({ guard, resolver, monotonicMs, timeoutMs: connectTimeoutMs })
  const sockets = createSockets({
    monotonicMs,
    socketsMax,
    socketsPerShareMax: socketsPerDestinationMax,
    waitTimeoutMs: socketWaitTimeoutMs,
  })
  const running = new Set<AbortController>()
  const drained = Promise.withResolvers<void>()
  let closing = false

  /** From having a place to an outcome; gives the place back. */
  async function attempt(
    request: SendRequest,
    url: URL,
    place: Place,
    stop: AbortController,
    mayWrite: () => boolean,
  ): Promise<SendOutcome> {
    const startMs = monotonicMs()
    const deadline = setTimeout(() => stop.abort('timeout'), request.timeoutMs)
    const { method, headers, body, timeoutMs } = request
    const exchangeOver = (line: Line) =>
      exchange(line, {
        method,
        path: url.pathname + url.search,
        headers,
        body,
        signal: stop.signal,
        monotonicMs,
        mayWrite,
      })
    const finish = (line: Line, exchanged: Exchange, connectTimings: ConnectTimings): SendOutcome => {
      leave(place, line, exchanged)
      const { firstByteMs } = exchanged
      const timings = {
        ...connectTimings,
        ...(firstByteMs === undefined ? {} : { firstByteMs }),
        totalMs: monotonicMs() - startMs,
      }
      return outcomeOf(exchanged, { stop: stop.signal, timeoutMs, address: line.address, timings })
    }

    try {
      if (place.line !== undefined) {
        const exchanged = await exchangeOver(place.line)
        const wentStale = exchanged.end === 'broken' && !exchanged.written && place.line.socket.destroyed
        if (!wentStale) return finish(place.line, exchanged, {})
        destroyLine(place.line)
      }
      const opened = await connect(targetOf(url), stop.signal)
      if (opened.kind === 'connected') {
        const line = sockets.createLine(url.origin, opened.socket, opened.address)
        return finish(line, await exchangeOver(line), opened.timings)
      }
      const totalMs = monotonicMs() - startMs
      if (opened.kind === 'exhausted') return { kind: 'abandoned', code: 'no_socket', detail: opened.detail }
      if (opened.kind === 'aborted') return stoppedUnsent(stop.signal, timeoutMs, { totalMs })
      return { ...opened, timings: { ...opened.timings, totalMs } }
    } finally {
      clearTimeout(deadline)
      place.leave() // unless a line was left in it: a place that is kept by mistake is one socket less for ever
    }
  }

  return {
    async send(request, { signal, beforeFirstByte = () => true } = {}) {
      const checked = guard.checkUrl(request.url)
      if (checked.kind === 'blocked') return { ...checked, timings: { totalMs: 0 } }
      if (signal?.aborted) return { kind: 'abandoned', code: 'aborted', detail: 'stopped before it began' }
      const { url } = checked

      const stop = new AbortController()
      const abort = () => stop.abort('aborted')
      signal?.addEventListener('abort', abort, { once: true })
      running.add(stop)
      try {
        const entered = await sockets.enter(`${request.destinationId} ${url.origin}`, stop.signal)
        return entered.kind === 'place' ? await attempt(request, url, entered, stop, beforeFirstByte) : entered
      } finally {
        signal?.removeEventListener('abort', abort)
        running.delete(stop)
        if (closing && running.size === 0) drained.resolve()
      }
    },

    close() {
      closing = true
      sockets.close()
      if (running.size === 0) drained.resolve()
      return drained.promise
    },

    destroy() {
      closing = true
      sockets.close()
      for (const stop of running) stop.abort('aborted')
    },
  }
}

function targetOf(url: URL): Target {
  const tls = url.protocol === 'https:'
  return { hostname: hostOf(url), port: url.port === '' ? (tls ? 443 : 80) : Number(url.port), tls }
}

/** Only a whole response leaves a line on which the next one can't be mistaken for this one. */
function leave(place: Place, line: Line, { end }: Exchange): void {
  if (end === 'whole') return place.leave(line)
  destroyLine(line)
  place.leave()
}

type Context = { stop: AbortSignal; timeoutMs: number; address: string; timings: Timings }

function outcomeOf(
  { end, error, written, response, firstByteMs }: Exchange,
  { stop, timeoutMs, address, timings }: Context,
): SendOutcome {
  const yes = response !== undefined && response.status >= 200 && response.status < 300
  if (response !== undefined && (!yes || end === 'whole' || end === 'cut')) {
    return { kind: yes ? 'delivered' : 'rejected', ...response, truncated: end !== 'whole', address, timings }
  }
  if (end === 'withheld' && !stop.aborted)
    return { kind: 'abandoned', code: 'lease_lapsed', detail: 'the lease was over before the first byte' }
  if (!written && stop.aborted) return stoppedUnsent(stop, timeoutMs, timings)

  const phase = response === undefined ? 'waiting for the answer' : `reading the response (status ${response.status})`
  if (end === 'stopped') {
    const timedOut = stop.reason === 'timeout'
    const detail = timedOut ? `not done within ${timeoutMs} ms, ${phase}` : `broken off, ${phase}`
    return { kind: 'unreachable', code: timedOut ? 'timeout' : 'aborted', detail, address, timings }
  }
  const cause = causeOf(error)
  if (!written && cause.code.startsWith('UND_ERR_'))
    return { kind: 'blocked', code: 'request_invalid', detail: cause.detail, timings }
  const answered = firstByteMs !== undefined && response === undefined
  return {
    kind: 'unreachable',
    code: unreachableCode(cause.code, answered),
    detail: `${cause.detail}, ${phase}`,
    address,
    timings,
  }
}

function stoppedUnsent(stop: AbortSignal, timeoutMs: number, timings: Timings): SendOutcome {
  if (stop.reason !== 'timeout') return { kind: 'abandoned', code: 'aborted', detail: 'stopped before the first byte' }
  return { kind: 'unreachable', code: 'timeout', detail: `not connected within ${timeoutMs} ms`, timings }
}

/** The code for machines, and a sentence for people. undici's sentences name headers, never their values. */
function causeOf(error: Error | undefined): { code: string; detail: string } {
  // The parser's errors ought to have codes of their own, and have none (undici 8.12).
  const coded =
    error instanceof errors.HTTPParserError
      ? 'HTTP_PARSER'
      : error !== undefined && 'code' in error
        ? error.code
        : undefined
  const code = typeof coded === 'string' ? coded : 'unknown'
  return { code, detail: `${code}: ${error?.message.slice(0, 200)}` }
}

/** `answered`: bytes came back, but no status could be read from them. */
function unreachableCode(code: string, answered: boolean): UnreachableCode {
  if (code === 'HTTP_PARSER' || code === 'UND_ERR_HEADERS_OVERFLOW') return 'protocol_error'
  if (answered && code.startsWith('UND_ERR_')) return 'protocol_error'
  if (code.startsWith('ERR_SSL_') || code.startsWith('ERR_TLS_')) return 'tls_failed'
  return 'reset'
}
