import { STATUS_CODES } from 'node:http'
import type { Response } from 'express'

/** Why a request was not served, for the person who sent it. Never a secret. */
export interface Refusal {
  status: number
  code: string
  /** What was wrong, where, and what was expected. */
  detail: string
  headers?: Readonly<Record<string, string>>
}

/** Thrown by whatever finds the caller at fault; becomes an answer in one place, the server's error handler. */
export class Refused extends Error {
  readonly refusal: Refusal
  constructor(refusal: Refusal) {
    super(refusal.detail)
    this.name = 'Refused'
    this.refusal = refusal
  }
}

/** The only place where a refusal becomes an answer: problem+json (RFC 9457). */
export function sendProblem(response: Response, { status, code, detail, headers = {} }: Refusal): void {
  if (response.headersSent) {
    response.destroy()
    return
  }
  response.statusCode = status
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value)
  response.setHeader('Content-Type', 'application/problem+json')
  response.end(JSON.stringify({ type: 'about:blank', title: STATUS_CODES[status] ?? 'Error', status, code, detail }))
}
