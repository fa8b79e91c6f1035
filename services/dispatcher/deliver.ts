import type { DeliveryId, DestinationId, EventId } from '@tenterhook/schemas/ids'
import type { Probe } from '@tenterhook/schemas/probe'
import type { Leased } from '@tenterhook/store/lease'
import type { AttemptResult, Recorded } from '@tenterhook/store/results'
import type { Log } from '@tenterhook/telemetry/log'
import type { Metrics } from '@tenterhook/telemetry/metrics'
import type { Tracing } from '@tenterhook/telemetry/trace'
import { requestOf } from './request.ts'
import type { AttemptOutcome } from './outcome.ts'
import { decide, type Decision } from './schedule.ts'
import type { Sender } from './send.ts'
import type { Leases } from './leases.ts'
import type { Results } from './results.ts'
import type { Slots } from './slots.ts'
import type { Target } from './targets.ts'

export interface DeliverDeps {
  slots: Slots
  leases: Leases
  targetOf: (leased: Leased) => Promise<Target>
  /** Of an event whose body was too large to come with the lease. */
  readBody: (id: EventId) => Promise<Buffer>
  sender: Sender
  results: Results
  /** Gives a lease back under which nothing was sent. */
  release: (leased: Leased, delayMs: number) => Promise<unknown>
  /** Asks for the destination's next deliveries (T3). */
  feed: (ids: readonly DestinationId[]) => void
  tracing: Tracing
  log: Log
  metrics: Metrics
  clock: { nowMs(): number; monotonicMs(): number }
  random: () => number
  probe: Probe
}

/** This machine, or this destination's share of it, has no socket to give: leasing again at once would spin. */
const noSocketWaitMs = 1_000
/** Postgres was away, or the destination's secret can't be opened. */
const notReadyWaitMs = 5_000
/** Of a lease, kept for recording the result. */
const recordMs = 2_000

/**
 * Lease → guard → sign → send → record → decide, for one admitted delivery. Brought here by a job or by the sweep: the
 * lease decides whether anything is sent at all, so it doesn't matter how often or how late it is brought.
 */
export async function deliver(id: DeliveryId, generation: number, deps: DeliverDeps, stop: AbortSignal): Promise<void> {
  const send = await takeLease(id, generation, deps, stop)
  await send?.()
}

/** The first half: a socket and the lease. What it returns makes the attempt and must be called; nothing when there is none to make. */
export async function takeLease(
  id: DeliveryId,
  generation: number,
  deps: DeliverDeps,
  stop: AbortSignal,
): Promise<(() => Promise<void>) | undefined> {
  await deps.slots.take()
  // Before the lease is asked for: its time runs from here at the latest.
  const askedMs = deps.clock.monotonicMs()
  let leased: Leased | undefined
  try {
    leased = await deps.leases.take(id, generation)
  } finally {
    if (!leased) deps.slots.give()
  }
  if (!leased) return undefined
  const mine = leased
  deps.probe('dispatcher.after_lease')
  return async () => {
    deps.metrics.deliveriesInFlight.inc()
    try {
      await attempt(mine, askedMs + mine.leaseMs, deps, stop)
    } finally {
      deps.metrics.deliveriesInFlight.dec()
      deps.slots.give()
    }
  }
}

async function attempt(leased: Leased, leaseEndsMs: number, deps: DeliverDeps, stop: AbortSignal): Promise<void> {
  let target: Target
  let body: Buffer
  try {
    target = await deps.targetOf(leased)
    body = leased.body ?? (await deps.readBody(leased.eventId))
  } catch (error) {
    // Nothing was sent: the delivery waits a little, in place of losing this lease.
    deps.log.error({ event: 'delivery.put_off', id: leased.id, error }, 'an attempt could not be prepared')
    await deps.release(leased, notReadyWaitMs)
    return
  }
  const consumer = deps.tracing.startSpan('process deliver', {
    kind: 'consumer',
    parent: leased.traceparent ?? undefined,
    attributes: { 'tenterhook.delivery.id': leased.id },
  })
  const client = deps.tracing.startSpan(`${target.destination.spec.method} ${target.destination.spec.name}`, {
    kind: 'client',
    parent: consumer.traceparent,
  })
  const startedAtMs = deps.clock.nowMs()

  const prepared = requestOf({ leased, body, target, traceparent: client.traceparent, nowMs: startedAtMs })
  const outcome =
    prepared.kind === 'blocked'
      ? prepared
      : await deps.sender.send(prepared.request, {
          signal: stop,
          // A lease that ends before the attempt can may be another's by then: nothing is sent.
          beforeFirstByte: () => deps.clock.monotonicMs() + target.timeoutMs + recordMs <= leaseEndsMs,
        })
  deps.probe('dispatcher.after_send')
  client.set({
    'http.response.status_code': 'status' in outcome ? outcome.status : undefined,
    'tenterhook.outcome': outcome.kind,
  })
  client.end(
    outcome.kind === 'delivered' ? undefined : { error: 'code' in outcome ? outcome.code : String(outcome.status) },
  )

  // Broken off by our own stop: the destination may have it, and no failure is counted. Its lease runs out.
  if (outcome.kind === 'unreachable' && outcome.code === 'aborted') {
    consumer.end({ error: outcome.code })
    return
  }
  if (outcome.kind === 'abandoned') {
    await deps.release(leased, outcome.code === 'no_socket' ? noSocketWaitMs : 0)
    deps.feed([leased.destinationId])
    consumer.end({ error: outcome.code })
    deps.log.info({ event: 'delivery.released', id: leased.id, code: outcome.code, detail: outcome.detail })
    return
  }

  const decision = decide(outcome, {
    failures: leased.failures,
    schedule: target.scheduleMs,
    jitter: target.connection.spec.retry.jitter,
    forwardPath: target.destination.spec.forwardPath,
    nowMs: deps.clock.nowMs(),
    random: deps.random,
  })
  const recorded = await deps.results.record(resultOf(leased, outcome, decision, startedAtMs))
  deps.probe('dispatcher.after_result')
  deps.feed([leased.destinationId])
  consumer.end()
  report(leased, target, outcome, recorded, consumer.traceId, deps)
  deps.probe('dispatcher.after_feed')
}

function resultOf(leased: Leased, outcome: AttemptOutcome, decision: Decision, startedAtMs: number): AttemptResult {
  const answered = outcome.kind === 'delivered' || outcome.kind === 'rejected' ? outcome : undefined
  const failed = outcome.kind === 'unreachable' || outcome.kind === 'blocked' ? outcome : undefined
  return {
    id: leased.id,
    token: leased.token,
    next: nextOf(decision),
    attempt: {
      number: leased.attempt,
      destinationVersion: leased.destinationVersion,
      startedAtMs,
      outcome: outcome.kind,
      status: answered?.status ?? null,
      code: failed?.code ?? null,
      detail: failed?.detail ?? null,
      address: 'address' in outcome ? (outcome.address ?? null) : null,
      responseHeaders: answered ? JSON.stringify(answered.headers) : null,
      responseBody: answered?.body ?? null,
      responseTruncated: answered?.truncated ?? false,
      timings: JSON.stringify(outcome.timings),
    },
  }
}

function nextOf(decision: Decision): AttemptResult['next'] {
  switch (decision.kind) {
    case 'done':
      return { kind: 'delivered' }
    case 'retry':
      return {
        kind: 'retry',
        delayMs: decision.delayMs,
        ...(decision.slowDestinationMs !== undefined && { slowDestinationMs: decision.slowDestinationMs }),
      }
    case 'dead':
      return {
        kind: 'dead',
        reason: decision.reason,
        ...(decision.pauseDestination && { pauseReason: 'it answered 410 Gone' }),
      }
  }
}

function report(
  leased: Leased,
  target: Target,
  outcome: AttemptOutcome,
  recorded: Recorded | undefined,
  traceId: string,
  deps: DeliverDeps,
): void {
  const destination = target.destination.spec.name
  const status = 'status' in outcome ? outcome.status : undefined
  const code = 'code' in outcome ? outcome.code : undefined
  deps.metrics.attempts.inc({ destination, outcome: outcome.kind })
  deps.metrics.attemptDuration.observe(outcome.timings.totalMs / 1_000)
  // The result came after its lease was taken over: the destination may see this delivery again.
  if (!recorded) deps.metrics.lostLeases.inc()
  const fields = {
    id: leased.id,
    eventId: leased.eventId,
    destination,
    connection: target.connection.spec.name,
    attempt: leased.attempt,
    outcome: outcome.kind,
    status,
    code,
    state: recorded?.state ?? 'lease_lost',
    durationMs: Math.round(outcome.timings.totalMs * 10) / 10,
    traceId,
  }
  deps.log.info({ event: 'delivery.attempted', ...fields })
  if (status === 410 && recorded?.state === 'dead' && !target.destination.spec.forwardPath) {
    deps.log.error(
      { event: 'destination.paused', destination, delivery: leased.id },
      `${destination} answered 410 Gone and was paused; when it is back, POST /v1/destinations/${destination}/resume`,
    )
  }
  if (recorded?.state !== 'dead') return
  deps.metrics.deadLetters.inc({ destination, reason: code ?? String(status) })
  deps.log.error({ event: 'delivery.dead', ...fields }, 'a delivery is a dead letter; it can be retried')
}
