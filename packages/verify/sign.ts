import type { HeaderPairs } from '@tenterhook/schemas/headers'
import type { Verification } from '@tenterhook/schemas/verification'
import { readInbound, type InboundRequest } from './inbound.ts'
import { writeLayout } from './layout.ts'
import type { CredentialRow, SignatureRow } from './row.ts'
import { rowOf } from './scheme-row.ts'
import { compileSignature } from './signature.ts'
import { writeTimestamp } from './timestamp.ts'

export type SigningResult =
  /** What to send. URL and body are those given, but for schemes that keep their proof there (a query parameter, a field). */
  | { kind: 'signed'; url: string; headers: HeaderPairs; body: Buffer }
  /** The scheme is checked with a public key; only the provider can sign. */
  | { kind: 'unsignable' }

export interface Unsigned extends Omit<InboundRequest, 'headers'> {
  headers?: HeaderPairs
  nowMs: number
  /** The id of the event, for schemes that sign one. */
  id: string
}

/**
 * Signs a request as the provider of a scheme would, with the current secret, by the same rows that verify it.
 * Throws a SyntaxError for schemes that keep their proof in a JSON body (linear, microsoft-graph) when it is none.
 */
export function signRequest(
  verification: Verification,
  { method, url, headers = [], body, nowMs, id }: Unsigned,
): SigningResult {
  const row = rowOf(verification)
  const [secret = ''] = verification.scheme === 'none' ? [] : verification.secrets
  const request = { method, url, headers, body }
  switch (row.proof) {
    case 'none':
      return { kind: 'signed', url, headers, body }
    case 'credential':
      return { kind: 'signed', ...present(row, request, secret) }
    case 'signature':
      return sign(row, request, secret, writeTimestamp(nowMs, row.timestamp?.unit ?? 'seconds'), id)
  }
}

function sign(
  row: SignatureRow,
  request: InboundRequest,
  secret: string,
  timestamp: string,
  id: string,
): SigningResult {
  const { keys, pieces } = compileSignature(row, [secret], undefined)
  const [key] = keys
  if (key?.kind !== 'shared') return { kind: 'unsignable' }
  const body =
    row.timestamp && typeof row.timestamp.from === 'object'
      ? withField(request.body, row.timestamp.from.path, Number(timestamp))
      : request.body
  const url =
    row.bodyHashParameter !== undefined && body.length > 0 && !isForm(request.headers)
      ? withParameter(request.url, row.bodyHashParameter, readInbound({ ...request, body }).bodyHash())
      : request.url
  const [set] = row.headers
  const added: [string, string][] = Object.entries(row.pinned ?? {})
  if (set.id !== undefined) added.push([set.id, id])
  if (set.timestamp !== undefined) added.push([set.timestamp, timestamp])
  const content = pieces(readInbound({ ...request, url, body }), timestamp, id, url)
  if (!content) return { kind: 'unsignable' }
  added.push([set.signature[0], writeLayout(row.layout, key.sign(content), timestamp)])
  return { kind: 'signed', url, headers: [...request.headers, ...added], body }
}

function present(
  { from }: CredentialRow,
  { url, headers, body }: InboundRequest,
  secret: string,
): { url: string; headers: HeaderPairs; body: Buffer } {
  if ('parameter' in from) return { url: withParameter(url, from.parameter, secret), headers, body }
  if ('everyItem' in from) return { url, headers, body: withField(body, from.everyItem, secret) }
  if ('header' in from) return { url, headers: [...headers, [from.header, secret]], body }
  const credential = 'basic' in from ? `Basic ${Buffer.from(secret, 'utf8').toString('base64')}` : `Bearer ${secret}`
  return { url, headers: [...headers, ['Authorization', credential]], body }
}

function withParameter(url: string, name: string, value: string): string {
  return `${url}${url.includes('?') ? '&' : '?'}${encodeURIComponent(name)}=${encodeURIComponent(value)}`
}

/** The JSON body with a field set, in every item where the path says `*`; a body without such a place stays as it is. */
function withField(body: Buffer, path: string, value: string | number): Buffer {
  const root: unknown = JSON.parse(body.toString('utf8'))
  const steps = path.split('.')
  const last = steps.pop() ?? ''
  let level = [root]
  for (const step of steps)
    level = level.flatMap((node) =>
      step === '*' ? (Array.isArray(node) ? node : []) : isRecord(node) ? [node[step]] : [],
    )
  for (const node of level) if (isRecord(node)) node[last] = value
  return Buffer.from(JSON.stringify(root), 'utf8')
}

function isRecord(node: unknown): node is Record<string, unknown> {
  return typeof node === 'object' && node !== null
}

function isForm(headers: HeaderPairs): boolean {
  return headers.some(
    ([name, value]) =>
      name.toLowerCase() === 'content-type' && value.toLowerCase().startsWith('application/x-www-form-urlencoded'),
  )
}
