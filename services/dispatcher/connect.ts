/**
 * Opens sockets to destinations, and only to addresses that the guard allows.
 *
 * The name is resolved once, each address is judged, and the socket is opened to the address that was judged: a name
 * that answers differently the next moment (rebinding) changes nothing. TLS proves the name afterwards.
 */
import { connect as connectTcp, isIP } from 'node:net'
import type { Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { Guard } from './guard.ts'
import type { ConnectTimings, RefusedCode, UnreachableCode } from './outcome.ts'
import type { Resolver } from './resolve.ts'

export type Target = { hostname: string; port: number; tls: boolean }

export type ConnectOutcome =
  | { kind: 'connected'; socket: Socket; address: string; timings: ConnectTimings }
  | { kind: 'unreachable'; code: UnreachableCode; detail: string; address?: string; timings: ConnectTimings }
  | { kind: 'blocked'; code: RefusedCode; detail: string; timings: ConnectTimings }
  /** This machine has no descriptors or memory for a socket: the destination's fault in no way. */
  | { kind: 'exhausted'; detail: string }
  | { kind: 'aborted' }

/** Leaves nothing open behind it unless it returns `connected`. That socket has an error listener and is ref'd. */
export type Connect = (target: Target, signal: AbortSignal) => Promise<ConnectOutcome>

/** With an address silent, how long until the next is tried beside it (RFC 8305 §5). */
const staggerMs = 250
/** TCP keep-alive, so that a path that died under a waiting response is noticed. */
const keepAliveInitialDelayMs = 30_000

export type ConnectorOptions = {
  guard: Guard
  resolver: Resolver
  monotonicMs: () => number
  /** TCP and TLS together; DNS has a deadline of its own. */
  timeoutMs?: number
}

export function createConnector({ guard, resolver, monotonicMs, timeoutMs = 3_000 }: ConnectorOptions): Connect {
  return async ({ hostname, port, tls }, signal) => {
    const timings: ConnectTimings = {}
    let addresses: readonly string[] = [hostname]
    if (isIP(hostname) === 0) {
      const startMs = monotonicMs()
      const resolution = await unlessAborted(resolver.resolve(hostname), signal)
      timings.dnsMs = monotonicMs() - startMs
      if (resolution === undefined) return { kind: 'aborted' }
      if (resolution.kind === 'failed')
        return { kind: 'unreachable', code: resolution.code, detail: resolution.detail, timings }
      addresses = resolution.addresses
    }

    const verdicts = addresses.map((address) => guard.check(address))
    const allowed = addresses.filter((_, i) => verdicts[i]?.kind === 'allowed')
    const refused = verdicts.find((verdict) => verdict.kind === 'blocked')
    if (allowed.length === 0 && refused !== undefined) {
      const detail = isIP(hostname) === 0 ? `${hostname}: ${refused.detail}` : refused.detail
      return { kind: 'blocked', code: refused.code, detail, timings }
    }

    const connectStartMs = monotonicMs()
    const opened = await openFirst(allowed, port, timeoutMs, signal)
    timings.connectMs = monotonicMs() - connectStartMs
    if (opened.kind === 'aborted' || opened.kind === 'exhausted') return opened
    if (opened.kind === 'unreachable' || !tls) return { ...opened, timings }

    const { socket, address } = opened
    const secured = await secure(socket, hostname, timeoutMs - timings.connectMs, signal)
    timings.tlsMs = monotonicMs() - connectStartMs - timings.connectMs
    return secured.kind === 'aborted' ? secured : { ...secured, address, timings }
  }
}

/** The query goes on for those who share it; this attempt stops waiting. */
function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  const { promise: first, resolve, reject } = Promise.withResolvers<T | undefined>()
  const abort = () => resolve(undefined)
  if (signal.aborted) abort()
  signal.addEventListener('abort', abort, { once: true })
  promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  return first
}

type Opened =
  | { kind: 'connected'; socket: Socket; address: string }
  | { kind: 'unreachable'; code: UnreachableCode; detail: string }
  | { kind: 'exhausted'; detail: string }
  | { kind: 'aborted' }

/**
 * The first of the addresses that answers: each is tried when the one before has failed or is silent for a while, none
 * is given up before the deadline (RFC 8305 §5), and the losers are destroyed.
 */
function openFirst(
  addresses: readonly string[],
  port: number,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Opened> {
  const { promise, resolve } = Promise.withResolvers<Opened>()
  const opening = new Set<Socket>()
  const failures: string[] = []
  let firstCode: UnreachableCode | undefined
  let next = 0
  let stagger: NodeJS.Timeout | undefined

  const finish = (opened: Opened) => {
    clearTimeout(deadline)
    clearTimeout(stagger)
    signal.removeEventListener('abort', abort)
    for (const socket of opening) socket.destroy()
    opening.clear() // a loser's error that is already on its way must not start another try
    resolve(opened)
  }
  const abort = () => finish({ kind: 'aborted' })

  const tryNext = () => {
    clearTimeout(stagger)
    const address = addresses[next++]
    if (address === undefined) {
      if (opening.size === 0)
        finish({ kind: 'unreachable', code: firstCode ?? 'connect_failed', detail: failures.join('; ') })
      return
    }
    const socket = connectTcp({
      host: address,
      port,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: keepAliveInitialDelayMs,
    })
    opening.add(socket)
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (!opening.delete(socket)) return
      if (exhaustion.has(error.code ?? ''))
        return finish({ kind: 'exhausted', detail: `${error.code}: no socket to ${address}` })
      firstCode ??= connectCodes[error.code ?? ''] ?? 'connect_failed'
      failures.push(`${address} port ${port}: ${error.code}`)
      tryNext()
    })
    socket.once('connect', () => {
      opening.delete(socket)
      finish({ kind: 'connected', socket, address })
    })
    if (next < addresses.length) stagger = setTimeout(tryNext, staggerMs)
  }

  const deadline = setTimeout(() => {
    const silent = addresses.slice(0, next).join(', ')
    finish({
      kind: 'unreachable',
      code: 'connect_timeout',
      detail: `no answer from ${silent} port ${port} within ${timeoutMs} ms`,
    })
  }, timeoutMs)
  signal.addEventListener('abort', abort, { once: true })
  if (signal.aborted) abort()
  else tryNext()
  return promise
}

const connectCodes: Readonly<Record<string, UnreachableCode>> = {
  ECONNREFUSED: 'connect_refused',
  ETIMEDOUT: 'connect_timeout',
  ECONNRESET: 'reset',
}
const exhaustion = new Set(['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM'])

type Secured =
  | { kind: 'connected'; socket: Socket }
  | { kind: 'unreachable'; code: UnreachableCode; detail: string }
  | { kind: 'aborted' }

/** The name in the URL is what the certificate must be for, and HTTP/1.1 what is spoken. Any failure destroys the socket. */
function secure(tcp: Socket, hostname: string, timeoutMs: number, signal: AbortSignal): Promise<Secured> {
  const { promise, resolve } = Promise.withResolvers<Secured>()
  // Server names are for names (RFC 6066 §3); the certificate of an address is checked against `host`.
  const socket = connectTls({
    socket: tcp,
    host: hostname,
    servername: isIP(hostname) === 0 ? hostname : '',
    ALPNProtocols: ['http/1.1'],
  })

  const finish = (secured: Secured) => {
    clearTimeout(deadline)
    signal.removeEventListener('abort', abort)
    if (secured.kind !== 'connected') {
      socket.destroy()
      tcp.destroy()
    }
    resolve(secured)
  }
  const abort = () => finish({ kind: 'aborted' })
  const deadline = setTimeout(
    () => finish({ kind: 'unreachable', code: 'connect_timeout', detail: `no TLS session with ${hostname} in time` }),
    Math.max(0, timeoutMs),
  )
  signal.addEventListener('abort', abort, { once: true })
  if (signal.aborted) abort()
  socket.once('secureConnect', () => finish({ kind: 'connected', socket }))
  socket.on('error', (error: NodeJS.ErrnoException) => {
    finish({
      kind: 'unreachable',
      code: 'tls_failed',
      detail: `${error.code ?? 'TLS'}: ${error.message.slice(0, 200)}`,
    })
  })
  return promise
}
