import type { Log } from '@tenterhook/telemetry/log'
import type { Metrics } from '@tenterhook/telemetry/metrics'
import type { Refusal } from './problem.ts'
import type { Arrival, Receipt } from './receive.ts'
import type { RejectionLog } from './rejection-log.ts'

/** Warnings about refused requests a second, at most: a flood must not fill the log either. */
const refusalLinesPerSecond = 20

/** Tells what became of a request: one log line, the metrics, and the rejection where it is one. */
export function createReporter({ log, metrics, rejections }: { log: Log; metrics: Metrics; rejections: RejectionLog }) {
  let linesLeft = refusalLinesPerSecond
  const timer = setInterval(() => (linesLeft = refusalLinesPerSecond), 1_000)
  timer.unref()

  function refusalLine(fields: Record<string, unknown>): void {
    if (linesLeft === 0) return
    linesLeft -= 1
    log.warn({ event: 'event.rejected', ...fields })
  }

  return {
    receipt(receipt: Receipt, arrival: Arrival, durationMs: number): void {
      // Names that no source has are the sender's to choose: they would fill the labels.
      const source = receipt.source?.spec.name ?? 'unknown'
      switch (receipt.kind) {
        case 'handshake':
          log.info({ event: 'handshake.answered', source, status: receipt.answer.status })
          return
        case 'accepted':
          metrics.accepts.inc({ source, outcome: 'accepted' })
          metrics.acceptDuration.observe(durationMs / 1_000)
          log.info({
            event: 'event.accepted',
            id: receipt.eventId,
            source,
            type: receipt.type,
            bytes: receipt.bodyBytes,
            durationMs: Math.round(durationMs * 10) / 10,
            traceId: receipt.traceparent.slice(3, 35),
          })
          return
        case 'duplicate':
          metrics.accepts.inc({ source, outcome: 'duplicate' })
          log.info({
            event: 'event.duplicate',
            id: receipt.eventId,
            source,
            differs: receipt.differs,
            traceId: receipt.traceparent.slice(3, 35),
          })
          return
        case 'unavailable':
          metrics.accepts.inc({ source, outcome: 'unavailable' })
          refusalLine({ source, status: receipt.answer.status, code: receipt.reason })
          return
        case 'rejected':
          metrics.accepts.inc({ source, outcome: 'rejected' })
          metrics.rejections.inc({ source, code: receipt.refusal.code })
          refusalLine({
            source,
            status: receipt.refusal.status,
            code: receipt.refusal.code,
            detail: receipt.refusal.detail,
            remoteAddress: arrival.remoteAddress,
          })
          rejections.record({
            sourceName: arrival.sourceName.slice(0, 100),
            sourceId: receipt.source?.id ?? null,
            code: receipt.refusal.code,
            status: receipt.refusal.status,
            detail: receipt.refusal.detail.slice(0, 500),
            method: arrival.method,
            path: arrival.path.slice(0, 500),
            remoteAddress: arrival.remoteAddress,
            bodyBytes: receipt.bodyBytes,
          })
      }
    },

    /** Of a request that reached no source. */
    refusal(refusal: Refusal, where: { method: string; path: string; remoteAddress: string | null }): void {
      metrics.rejections.inc({ source: 'unknown', code: refusal.code })
      refusalLine({ status: refusal.status, code: refusal.code, remoteAddress: where.remoteAddress })
      rejections.record({
        sourceName: '',
        sourceId: null,
        code: refusal.code,
        status: refusal.status,
        detail: refusal.detail,
        method: where.method,
        path: where.path.slice(0, 500),
        remoteAddress: where.remoteAddress,
        bodyBytes: 0,
      })
    },
  }
}
