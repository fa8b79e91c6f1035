import { createBullBoard } from '@bull-board/api'
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter'
import { ExpressAdapter } from '@bull-board/express'
import { Router, type NextFunction, type Request, type Response } from 'express'
import type { BoardQueues } from '@tenterhook/queue/board'
import { wantsPage } from './access.ts'
import { errorPage } from './pages.ts'
import { Refused } from './problem.ts'
import { sendPage } from './sign-in.ts'

/** Bull Board brings its own scripts and inline styles; a font that it would fetch elsewhere stays away. */
const boardPolicy =
  "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"

/**
 * All queues, in Bull Board. What it shows are hints, so what it changes loses nothing, and what an operator wants is
 * seldom there: it is read-only unless asked. Then nothing but reading reaches it at all.
 */
export function boardRouter({
  board,
  basePath,
  writable,
}: {
  board: BoardQueues
  basePath: string
  writable: boolean
}): Router {
  const adapter = new ExpressAdapter()
  adapter.setBasePath(basePath)
  createBullBoard({
    queues: board.queues.map((queue) => new BullMQAdapter(queue, { readOnlyMode: !writable })),
    serverAdapter: adapter,
    options: { uiConfig: { boardTitle: 'Tenterhook queues', miscLinks: [{ text: 'Console', url: '/' }] } },
  })

  const router = Router()
  router.use((request: Request, response: Response, next: NextFunction) => {
    if (!writable && request.method !== 'GET' && request.method !== 'HEAD') {
      throw new Refused({
        status: 405,
        code: 'board_read_only',
        detail: 'the queues are shown read-only; TENTERHOOK_BOARD_WRITABLE=true changes that',
        headers: { Allow: 'GET, HEAD' },
      })
    }
    response.set('Content-Security-Policy', boardPolicy)
    next()
  })
  router.use(async (request: Request, response: Response, next: NextFunction) => {
    if (request.path.startsWith('/static/') || (await isAnswering(board))) return next()
    const detail =
      'Redis can’t be reached, so the queues can’t be shown. Events are accepted and delivered all the same; the API answers.'
    if (!wantsPage(request))
      throw new Refused({ status: 503, code: 'redis_unavailable', detail, headers: { 'Retry-After': '2' } })
    sendPage(response.set('Retry-After', '2'), 503, errorPage('The queues can’t be shown', detail))
  })
  router.use(adapter.getRouter())
  return router
}

/** Bull Board's own word for a Redis that is away is an error without a name. */
async function isAnswering({ queues }: BoardQueues): Promise<boolean> {
  try {
    await queues[0]?.isPaused()
    return true
  } catch {
    return false
  }
}
