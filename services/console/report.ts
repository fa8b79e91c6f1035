import type { Request } from 'express'
import type { Log } from '@tenterhook/telemetry/log'
import type { Metrics } from '@tenterhook/telemetry/metrics'
import { addressOf, type TokenTry } from './access.ts'
import type { OperatorAction } from './actions.ts'

/** Lines about refused access and faults a second, at most: strangers must not fill the log. */
const linesPerSecond = 10

/** Tells what operators did and who was refused: one log line and one count each. */
export function createReporter({
  log,
  metrics,
}: {
  log: Log
  metrics: Pick<Metrics, 'operatorActions' | 'accessRefused'>
}) {
  let linesLeft = linesPerSecond
  const timer = setInterval(() => (linesLeft = linesPerSecond), 1_000)
  timer.unref()

  function bounded(write: () => void): void {
    if (linesLeft === 0) return
    linesLeft -= 1
    write()
  }

  function refused(reason: string, request: Request): void {
    metrics.accessRefused.inc({ reason })
    bounded(() => log.warn({ event: 'access.refused', reason, ...whence(request) }))
  }

  return {
    acted(action: OperatorAction, fields: Readonly<Record<string, unknown>>, request: Request): void {
      metrics.operatorActions.inc({ action })
      log.info({ event: `operator.${action}`, ...fields, remoteAddress: addressOf(request) })
    },

    signedIn(tried: TokenTry['kind'], request: Request): void {
      if (tried !== 'right') return refused(tried === 'wrong' ? 'token_wrong' : 'tries_used_up', request)
      metrics.operatorActions.inc({ action: 'signed_in' })
      log.info({ event: 'operator.signed_in', remoteAddress: addressOf(request) })
    },

    refused,

    failed(error: unknown, request: Request): void {
      bounded(() => log.error({ event: 'request.failed', ...whence(request), error }))
    },
  }
}

function whence(request: Request): Record<string, unknown> {
  return { method: request.method, path: request.path.slice(0, 200), remoteAddress: addressOf(request) }
}
