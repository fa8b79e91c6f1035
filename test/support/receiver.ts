/**
 * A real HTTP receiver for tests: it records what it got, byte for byte, and misbehaves on demand.
 *
 * It owns its records and its connections. A request counts as received when its body has come to the end; one that
 * was broken off counts as aborted. Memory is bounded: past `requestsMax` the record is refused loudly on reading
 * (a test that silently saw only the first part would pass for the wrong reason).
 */
import { hash } from 'node:crypto'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { pairsFromRawHeaders } from '@tenterhook/schemas/headers'
import type { HeaderPairs } from '@tenterhook/schemas/headers'
import { answer } from './behaviours.ts'
import type { Behaviour } from './behaviours.ts'

export type Received = {
  method: string
  /** The path without the query, as it came. */
  path: string
  /** The query without its "?", as it came; empty when there was none. */
  query: string
  headers: HeaderPairs
  /** The exact bytes; empty when the receiver keeps hashes only. */
  body: Buffer
  bytes: number
  /** Lower-case hex. */
  sha256: string
  /** Milliseconds since 1970, when the last byte of the body came. */
  at: number
}

export type Receiver = {
  /** Without a slash at the end: `http://127.0.0.1:40123`. */
  url: string
  port: number
  /** All requests in the order in which their bodies ended, or those of one path. */
  received(path?: string): readonly Received[]
  /** How many requests were received; also right when they are more than `requestsMax`. */
  count(path?: string): number
  connections(): { open: number; total: number; aborted: number }
  /** Sets what a path does from now on; `*` is every path without a behaviour of its own. */
  on(path: string, behaviour: Behaviour): void
  /** Forgets records, counts and behaviours; open connections stay. */
  clear(): void
  /** Breaks what is open and closes the port. */
  stop(): Promise<void>
}

export type ReceiverOptions = {
  port?: number
  /** `hash` keeps the size and the SHA-256 in place of the bytes, for tests under load. */
  keep?: 'body' | 'hash'
  /** Default 100,000. */
  requestsMax?: number
  clock?: () => number
}

const nothing = Buffer.alloc(0)

export async function startReceiver(options: ReceiverOptions = {}): Promise<Receiver> {
  const { port = 0, keep = 'body', requestsMax = 100_000, clock = Date.now } = options
  const behaviours = new Map<string, Behaviour>()
  const usual = answer()
  let records: Received[] = []
  let counts = new Map<string, number>()
  let total = 0
  let connectionsTotal = 0
  let aborted = 0
  const open = new Set<Socket>()

  function receive(request: IncomingMessage, response: ServerResponse): void {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('error', () => {}) // a sender that breaks off is seen by 'close' below
    request.on('close', () => {
      if (!request.complete) aborted++
    })
    response.on('error', () => {}) // behaviours write to connections that the sender has left
    request.on('end', () => {
      const target = request.url ?? '/'
      const cut = target.indexOf('?')
      const path = cut < 0 ? target : target.slice(0, cut)
      total++
      counts.set(path, (counts.get(path) ?? 0) + 1)
      if (records.length < requestsMax) {
        const body = chunks.length === 1 ? (chunks[0] ?? nothing) : Buffer.concat(chunks)
        records.push({
          method: request.method ?? '',
          path,
          query: cut < 0 ? '' : target.slice(cut + 1),
          headers: pairsFromRawHeaders(request.rawHeaders),
          body: keep === 'body' ? body : nothing,
          bytes: body.length,
          sha256: hash('sha256', body, 'hex'),
          at: clock(),
        })
      }
      const behave = behaviours.get(path) ?? behaviours.get('*') ?? usual
      behave(request, response)
    })
  }

  // No timeouts of its own: how long a connection lives is what the tests are about.
  const server = createServer({ keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0 }, receive)
  server.on('connection', (socket) => {
    connectionsTotal++
    open.add(socket)
    socket.once('close', () => open.delete(socket))
  })
  server.on('clientError', (_error, socket) => socket.destroy())

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ port, host: '127.0.0.1', backlog: 1_024 }, resolve)
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the receiver has no port')
  let stopped: Promise<void> | undefined

  return {
    url: `http://127.0.0.1:${address.port}`,
    port: address.port,
    received(path) {
      if (total > records.length)
        throw new Error(
          `${total} requests came, only ${records.length} are kept: raise requestsMax, or clear() in between`,
        )
      return path === undefined ? [...records] : records.filter((record) => record.path === path)
    },
    count: (path) => (path === undefined ? total : (counts.get(path) ?? 0)),
    connections: () => ({ open: open.size, total: connectionsTotal, aborted }),
    on: (path, behaviour) => void behaviours.set(path, behaviour),
    clear() {
      behaviours.clear()
      records = []
      counts = new Map()
      total = connectionsTotal = aborted = 0
    },
    stop() {
      stopped ??= new Promise((resolve) => {
        server.close(() => resolve())
        for (const socket of open) socket.destroy()
      })
      return stopped
    },
  }
}
