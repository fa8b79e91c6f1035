import { randomUUID } from 'node:crypto'
import { connect } from 'node:net'
import { pairsFromRawHeaders, soleHeader } from '@tenterhook/schemas/headers'
import type { HeaderPairs } from '@tenterhook/schemas/headers'
import type { Verification } from '@tenterhook/schemas/verification'
import { signRequest } from '@tenterhook/verify/sign'
import { Agent } from 'undici'
import type { Stack } from './stack.ts'

export type Sending = {
  method?: string
  /** What follows `/in/<source>`, the query included. */
  rest?: string
  headers?: HeaderPairs
  body?: Buffer | string
  /** The provider's id of the event, for schemes that sign one. */
  id?: string
  nowMs?: number
  /** Default: as the source's own configuration says. `false` sends it unsigned. */
  sign?: Verification | false
  /** Another copy than the first; its `url`. */
  origin?: string
}

export type Answered = {
  status: number
  headers: HeaderPairs
  text: string
  /** The fields of a JSON object, an empty object for anything else. */
  json: Record<string, unknown>
}

/** Connections are kept, as senders do, and never shared between test files. */
const agent = new Agent({ connections: 128, pipelining: 1 })

/** Sends a source what its provider would, signed with its current secret. */
export async function send(stack: Stack, source: string, sending: Sending = {}): Promise<Answered> {
  const origin = sending.origin ?? new URL(stack.ingestUrl).origin
  const { path, headers, body, method } = signed(stack, source, sending)
  const answer = await agent.request({
    origin,
    path,
    method,
    headers: headers.flatMap(([name, value]) => [name, value]),
    body: body.length > 0 || method === 'POST' ? body : null,
    responseHeaders: 'raw',
  })
  const text = await answer.body.text()
  // `raw` makes a list of them, which undici's types don't tell.
  const raw: unknown = answer.headers
  if (!Array.isArray(raw)) throw new Error('the headers are no list')
  return { status: answer.statusCode, headers: pairsFromRawHeaders(raw.map(String)), text, json: fieldsOf(text) }
}

/** The request that `send` would send. */
export function signed(
  stack: Stack,
  source: string,
  sending: Sending,
): { method: string; path: string; headers: HeaderPairs; body: Buffer } {
  const { method = 'POST', rest = '', headers = [], body = '', id = randomUUID(), nowMs = Date.now(), sign } = sending
  const base = stack.ingestUrl
  const unsigned = { method, url: `${base}/${source}${rest}`, headers, body: Buffer.from(body) }
  const proof =
    sign === false
      ? { kind: 'signed' as const, ...unsigned }
      : signRequest(sign ?? stack.verificationOf(source), { ...unsigned, id, nowMs })
  if (proof.kind === 'unsignable') throw new Error(`${source} can't be signed for`)
  return { method, path: proof.url.slice(new URL(base).origin.length), headers: proof.headers, body: proof.body }
}

/** Bytes straight to ingest's socket, and the answer to them. For what no client would send. */
export function sendRaw(stack: Stack, bytes: string | Buffer): Promise<Answered> {
  const { hostname, port } = new URL(stack.ingestUrl)
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port) })
    let received = Buffer.alloc(0)
    const look = (ended: boolean) => {
      const answer = parseAnswer(received)
      if (answer === undefined && !ended) return
      socket.destroy()
      if (answer === undefined) reject(new Error(`no answer, only ${JSON.stringify(received.toString('latin1'))}`))
      else resolve(answer)
    }
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk])
      look(false)
    })
    socket.once('end', () => look(true))
    socket.once('error', () => look(true))
    socket.write(bytes)
  })
}

/** The first answer that is not interim, once all of it is there. */
function parseAnswer(received: Buffer): Answered | undefined {
  const cut = received.indexOf('\r\n\r\n')
  if (cut < 0) return undefined
  const [statusLine = '', ...lines] = received.toString('latin1', 0, cut).split('\r\n')
  const status = Number(statusLine.split(' ')[1] ?? 0)
  if (status < 200) return parseAnswer(received.subarray(cut + 4))
  const headers = lines.map((line): [string, string] => {
    const colon = line.indexOf(':')
    return [line.slice(0, colon), line.slice(colon + 1).trim()]
  })
  const body = received.subarray(cut + 4)
  if (body.length < Number(soleHeader(headers, 'content-length') ?? 0)) return undefined
  const text = body.toString('utf8')
  return { status, headers, text, json: fieldsOf(text) }
}

function fieldsOf(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? { ...value } : {}
  } catch {
    return {}
  }
}
