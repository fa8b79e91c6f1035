import { createHash } from 'node:crypto'
import type { HeaderPairs } from '@tenterhook/schemas/headers'
import { bodyReader } from './body.ts'

/** A request as ingest received it. */
export interface InboundRequest {
  method: string
  /** The public URL as it is registered at the provider, with its query: what URL-signing schemes sign. */
  url: string
  headers: HeaderPairs
  /** The bytes as they came, never decoded. */
  body: Buffer
}

/** A request with its parts indexed, each part only when it is asked for. */
export interface Inbound {
  readonly method: string
  readonly url: string
  readonly body: Buffer
  /** The only value of a header (name in lower case); undefined when absent or repeated: a second copy must never decide. */
  header(name: string): string | undefined
  isRepeated(name: string): boolean
  /** All values of a query parameter, decoded, in order. */
  query(name: string): string[]
  /** The scalars at a path into the JSON or form body (see bodyReader), or undefined. */
  at(path: string): string[] | undefined
  bodyHash(): string
}

export function readInbound(request: InboundRequest): Inbound {
  const headers = new Map<string, string | null>()
  for (const [name, value] of request.headers) {
    const key = name.toLowerCase()
    headers.set(key, headers.has(key) ? null : value)
  }
  const header = (name: string) => headers.get(name) ?? undefined
  let parameters: URLSearchParams | undefined
  let reader: ReturnType<typeof bodyReader> | undefined
  return {
    method: request.method,
    url: request.url,
    body: request.body,
    header,
    isRepeated: (name) => headers.get(name) === null,
    query: (name) => (parameters ??= new URLSearchParams(queryOf(request.url))).getAll(name),
    at: (path) => (reader ??= bodyReader(header('content-type'), request.body))(path),
    bodyHash: () => createHash('sha256').update(request.body).digest('hex'),
  }
}

/** The same request with another body, for bodies that are verified after decompression. */
export function withBody(inbound: Inbound, body: Buffer): Inbound {
  const reader = bodyReader(inbound.header('content-type'), body)
  return { ...inbound, body, at: reader, bodyHash: () => createHash('sha256').update(body).digest('hex') }
}

function queryOf(url: string): string {
  const start = url.indexOf('?')
  if (start === -1) return ''
  const end = url.indexOf('#', start)
  return url.slice(start + 1, end === -1 ? undefined : end)
}
