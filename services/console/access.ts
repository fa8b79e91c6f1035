import type { NextFunction, Request, Response } from 'express'
import { isSameToken, type AdminToken } from './admin-token.ts'
import { Refused } from './problem.ts'
import { hasSession } from './session.ts'
import type { TryLimit } from './try-limit.ts'

export type TokenTry = { kind: 'right' } | { kind: 'wrong' } | { kind: 'limited'; waitMs: number }

/**
 * Who may use the console: whoever brings the admin token, or the session that a browser got for it.
 *
 * A1. Without either nothing behind `guard` is reached: a browser is sent to sign in, a program gets 401.
 * A2. A session, which a browser sends unasked, changes something only at the request of a page of ours.
 * A3. Wrong tokens are counted per address, however they come, and bounded.
 */
export interface Access {
  guard(request: Request, response: Response, next: NextFunction): Promise<void>
  tryToken(token: string, address: string): Promise<TokenTry>
}

export function createAccess(params: {
  token: AdminToken
  tries: TryLimit
  nowMs: () => number
  onRefused: (reason: 'no_credential' | 'token_wrong' | 'tries_used_up' | 'cross_site', request: Request) => void
}): Access {
  async function tryToken(given: string, address: string): Promise<TokenTry> {
    const token = await params.token.current()
    // From here on without a pause, or tries that come together would all be heard before the first is counted.
    const waitMs = params.tries.waitMs(address)
    if (waitMs > 0) return { kind: 'limited', waitMs }
    if (isSameToken(given, token)) return { kind: 'right' }
    params.tries.wrong(address)
    return { kind: 'wrong' }
  }

  function refuse(reason: Parameters<typeof params.onRefused>[0], request: Request, waitMs = 0): never {
    params.onRefused(reason, request)
    throw new Refused(refusalOf(reason, waitMs))
  }

  async function guard(request: Request, response: Response, next: NextFunction): Promise<void> {
    const bearer = /^bearer +(\S+) *$/i.exec(request.headers.authorization ?? '')?.[1]
    if (bearer !== undefined) {
      const tried = await tryToken(bearer, addressOf(request))
      if (tried.kind === 'limited') refuse('tries_used_up', request, tried.waitMs)
      if (tried.kind === 'wrong') refuse('token_wrong', request)
      return next()
    }
    if (hasSession(await params.token.current(), request.headers.cookie, params.nowMs())) {
      if (!isReading(request.method) && originOf(request) !== 'same') refuse('cross_site', request)
      return next()
    }
    if (!wantsPage(request)) refuse('no_credential', request)
    response.redirect(303, `/sign-in?to=${encodeURIComponent(request.originalUrl)}`)
  }

  return { guard, tryToken }
}

function refusalOf(reason: 'no_credential' | 'token_wrong' | 'tries_used_up' | 'cross_site', waitMs: number) {
  const challenge = { 'WWW-Authenticate': 'Bearer realm="tenterhook"' }
  switch (reason) {
    case 'no_credential':
      return {
        status: 401,
        code: 'token_missing',
        detail: 'send the admin token: Authorization: Bearer <token>; in a browser, sign in at /sign-in',
        headers: challenge,
      }
    case 'token_wrong':
      return {
        status: 401,
        code: 'token_wrong',
        detail: 'this is not the admin token',
        headers: { 'WWW-Authenticate': 'Bearer realm="tenterhook", error="invalid_token"' },
      }
    case 'tries_used_up':
      return {
        status: 429,
        code: 'tries_used_up',
        detail: 'too many wrong tokens came from this address; wait and try again',
        headers: retryAfter(waitMs),
      }
    case 'cross_site':
      return {
        status: 403,
        code: 'cross_site',
        detail:
          'a session changes something only from a page of this console (Sec-Fetch-Site or Origin); programs send Authorization: Bearer <token>',
      }
  }
}

export function retryAfter(waitMs: number): Record<string, string> {
  return { 'Retry-After': String(Math.max(1, Math.ceil(waitMs / 1_000))) }
}

export function addressOf(request: Request): string {
  return request.ip ?? 'unknown'
}

function isReading(method: string): boolean {
  return method === 'GET' || method === 'HEAD'
}

/** A person in a browser: to be led to a page, not told in JSON. */
export function wantsPage(request: Request): boolean {
  return isReading(request.method) && (request.headers.accept ?? '').includes('text/html')
}

/**
 * Whose page asks. Sec-Fetch-Site says it where browsers send it (HTTPS and localhost); the Origin of every POST does
 * elsewhere. Another port of this host is `same-site`, and not us.
 */
export function originOf(request: Request): 'same' | 'other' | 'unsaid' {
  const site = request.headers['sec-fetch-site']
  if (site !== undefined) return site === 'same-origin' ? 'same' : 'other'
  const { origin, host } = request.headers
  if (origin === undefined) return 'unsaid'
  return URL.canParse(origin) && new URL(origin).host === host ? 'same' : 'other'
}
