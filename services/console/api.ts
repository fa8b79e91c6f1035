import express, { Router, type NextFunction, type Request, type Response } from 'express'
import { Refused } from './problem.ts'
import { replying, type Handler } from './reply.ts'

const bodyBytesMax = 65_536

/** The management API: reading by GET, acting by POST, JSON both ways. */
export function apiRouter({
  reading,
  acting,
}: {
  reading: Record<string, Handler>
  acting: Record<string, Handler>
}): Router {
  const router = Router({ caseSensitive: true })
  router.use((_request: Request, response: Response, next: NextFunction) => {
    response.set({
      'Cache-Control': 'no-store',
      'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
    })
    next()
  })
  const json = [refuseOtherTypes, express.json({ limit: bodyBytesMax, inflate: false })]
  for (const [path, handler] of Object.entries(reading)) {
    router.route(path).get(replying(handler)).all(refuseMethod('GET, HEAD'))
  }
  for (const [path, handler] of Object.entries(acting)) {
    router.route(path).post(json, replying(handler)).all(refuseMethod('POST'))
  }
  return router
}

/** A body that isn't called JSON would be left unread, and a replay meant for one connection would go over all. */
function refuseOtherTypes(request: Request, _response: Response, next: NextFunction): void {
  const hasBody =
    request.headers['transfer-encoding'] !== undefined || Number(request.headers['content-length'] ?? 0) > 0
  if (hasBody && !request.is('application/json')) {
    throw new Refused({ status: 415, code: 'content_type_unknown', detail: 'Content-Type: expected application/json' })
  }
  next()
}

function refuseMethod(allow: string) {
  return (request: Request) => {
    throw new Refused({
      status: 405,
      code: 'method_not_allowed',
      detail: `expected ${allow}, not ${request.method}`,
      headers: { Allow: allow },
    })
  }
}
