import { createServer, type Server } from 'node:http'
import express, { type NextFunction, type Request, type Response, type Router } from 'express'
import { StoreFault } from '@tenterhook/store/faults'
import type { Access } from './access.ts'
import { AdminTokenError, type AdminToken } from './admin-token.ts'
import { homePage } from './pages.ts'
import { Refused, sendProblem, type Refusal } from './problem.ts'
import { sendPage, signOut } from './sign-in.ts'

const headersTimeoutMs = 10_000
const requestTimeoutMs = 30_000
const timeoutCheckEveryMs = 1_000
/** Longer than the idle timeout of the load balancers in front, so that they never reuse a closed connection. */
const keepAliveMs = 75_000

/** The console's HTTP: what is open to anyone is the sign-in page; all else stands behind the guard. */
export function createConsoleServer(params: {
  access: Access
  token: AdminToken
  signIn: Router
  api: Router
  board: Router
  trustedProxies: readonly string[]
  onFault: (error: unknown, request: Request) => void
}): Server {
  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.set('trust proxy', params.trustedProxies)

  app.use((_request: Request, response: Response, next: NextFunction) => {
    response.set({
      'X-Content-Type-Options': 'nosniff',
      'X-Frame-Options': 'DENY',
      'Cross-Origin-Resource-Policy': 'same-origin',
      // Not no-referrer: with it browsers send `Origin: null`, and a form of ours would look like another's.
      'Referrer-Policy': 'same-origin',
      'Cache-Control': 'no-store',
    })
    next()
  })
  app.use(params.signIn)
  app.use(params.access.guard)
  app.get('/', (_request, response) => sendPage(response, 200, homePage()))
  app.post('/sign-out', signOut(params.token))
  app.use('/v1', params.api)
  app.use('/queues', params.board)
  app.use((request: Request) => {
    throw new Refused({ status: 404, code: 'not_found', detail: `there is nothing at ${request.path.slice(0, 200)}` })
  })
  app.use((error: unknown, request: Request, response: Response, _next: NextFunction) => {
    const refusal = refusalOf(error)
    if (refusal.status >= 500) params.onFault(error, request)
    sendProblem(response, refusal)
  })

  const server = createServer({ connectionsCheckingInterval: timeoutCheckEveryMs }, app)
  server.headersTimeout = headersTimeoutMs
  server.requestTimeout = requestTimeoutMs
  server.keepAliveTimeout = keepAliveMs
  return server
}

/** The one place where what was thrown is told from whose fault it was. */
function refusalOf(error: unknown): Refusal {
  if (error instanceof Refused) return error.refusal
  if (error instanceof StoreFault) return storeRefusal(error)
  if (error instanceof AdminTokenError) {
    return {
      status: 503,
      code: error.code,
      detail: 'the admin token can’t be read, so nobody is let in; the console’s log says why',
    }
  }
  return (
    parserRefusal(error) ?? {
      status: 500,
      code: 'internal',
      detail: 'the console met an error of its own; its log has it',
    }
  )
}

function storeRefusal(fault: StoreFault): Refusal {
  const headers = { 'Retry-After': '2' }
  return fault.code === 'store_slow'
    ? {
        status: 503,
        code: fault.code,
        detail: 'Postgres took too long; a list is quicker with since and until',
        headers,
      }
    : {
        status: 503,
        code: fault.code,
        detail: 'Postgres can’t be reached; what was asked for may have been done: repeat it with its Idempotency-Key',
        headers,
      }
}

/** Of Express and its body parsers, whose errors of the caller carry a status and a `type` (https://github.com/expressjs/body-parser#errors). */
function parserRefusal(error: unknown): Refusal | undefined {
  if (!(error instanceof Error) || !('status' in error) || typeof error.status !== 'number' || error.status >= 500)
    return undefined
  const type = 'type' in error ? error.type : undefined
  switch (type) {
    case 'entity.too.large':
      return { status: 413, code: 'body_too_large', detail: 'the body has more bytes than are taken here' }
    case 'entity.parse.failed':
      return { status: 400, code: 'body_invalid', detail: 'expected a JSON object' }
    case 'encoding.unsupported':
    case 'charset.unsupported':
      return { status: 415, code: 'content_type_unknown', detail: 'expected UTF-8, not compressed' }
    default:
      return { status: error.status, code: 'request_malformed', detail: 'the request could not be read' }
  }
}
