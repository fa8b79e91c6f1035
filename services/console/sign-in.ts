import express, { Router, type Request, type Response } from 'express'
import { addressOf, originOf, retryAfter, type Access, type TokenTry } from './access.ts'
import type { AdminToken } from './admin-token.ts'
import { pagePolicy, signInPage } from './pages.ts'
import { Refused } from './problem.ts'
import { openSession, sessionCookie } from './session.ts'

/** A token and a path. */
const formBytesMax = 8_192

/** The page that turns the admin token into a browser's session, reached without one. */
export function signInRouter(params: {
  access: Access
  nowMs: () => number
  report: (tried: TokenTry['kind'], request: Request) => void
}): Router {
  const router = Router()
  const form = express.urlencoded({ extended: false, limit: formBytesMax, inflate: false })

  router.get('/sign-in', (request, response) =>
    sendPage(response, 200, signInPage({ to: pathOf(request.query['to']) })),
  )

  router.post('/sign-in', form, async (request: Request, response: Response) => {
    if (originOf(request) === 'other')
      throw new Refused({ status: 403, code: 'cross_site', detail: 'sign in from the page of this console' })
    const fields = (request.body ?? {}) as { token?: unknown; to?: unknown }
    const to = pathOf(fields.to)
    const given = typeof fields.token === 'string' ? fields.token.trim() : ''
    const tried = await params.access.tryToken(given, addressOf(request))
    params.report(tried.kind, request)
    switch (tried.kind) {
      case 'right':
        // Of the token that was given: if it was reset a moment ago, this session is none.
        response.setHeader('Set-Cookie', sessionCookie(given, openSession(given, params.nowMs()), request.secure))
        response.redirect(303, to)
        return
      case 'wrong':
        sendPage(response, 401, signInPage({ to, error: 'This is not the admin token.' }))
        return
      case 'limited':
        response.set(retryAfter(tried.waitMs))
        sendPage(
          response,
          429,
          signInPage({ to, error: 'Too many wrong tokens came from this address. Wait a minute and try again.' }),
        )
    }
  })
  return router
}

/** Behind the guard, since it changes something. */
export function signOut(token: AdminToken) {
  return async (request: Request, response: Response) => {
    response.setHeader('Set-Cookie', sessionCookie(await token.current(), '', request.secure))
    response.redirect(303, '/sign-in')
  }
}

export function sendPage(response: Response, status: number, html: string): void {
  response.status(status).set({ 'Content-Security-Policy': pagePolicy, 'Content-Type': 'text/html; charset=utf-8' })
  response.end(html)
}

const nowhere = 'http://nowhere.invalid'

/** A path of this console to go on to; anything that could lead elsewhere (`//host`, `/\host`) leads home. */
function pathOf(to: unknown): string {
  if (typeof to !== 'string' || !URL.canParse(to, nowhere)) return '/'
  const url = new URL(to, nowhere)
  return url.origin === nowhere && !url.pathname.startsWith('//') ? url.pathname + url.search : '/'
}
