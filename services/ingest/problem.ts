import { STATUS_CODES } from 'node:http'
import type { HeaderPairs } from '@tenterhook/schemas/headers'

/** What is written back to a sender. */
export interface Answer {
  status: number
  headers: HeaderPairs
  body: string
}

/** Why a request was not accepted; the code is also its rejection's and its metric's. */
export interface Refusal {
  status: number
  code: string
  /** What was wrong and what was expected, for the person who sends. Never a secret. */
  detail: string
  headers?: HeaderPairs
}

/** The only place where a refusal becomes an answer: problem+json (RFC 9457). */
export function problemAnswer({ status, code, detail, headers = [] }: Refusal): Answer {
  return {
    status,
    headers: [['Content-Type', 'application/problem+json'], ['Cache-Control', 'no-store'], ...headers],
    body: JSON.stringify({ type: 'about:blank', title: STATUS_CODES[status] ?? 'Error', status, code, detail }),
  }
}

/** The same for a request that never became one: written straight to the socket. */
export function problemBytes(refusal: Refusal): string {
  const { status, headers, body } = problemAnswer(refusal)
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')
  return `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Error'}\r\n${lines}Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`
}
