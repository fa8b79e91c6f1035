import type { DestinationId, EventId } from '@tenterhook/schemas/ids'
import type { Probe } from '@tenterhook/schemas/probe'
import type { DeadReason } from '@tenterhook/schemas/states'
import type { Leased } from '@tenterhook/store/lease'
import type { AttemptResult, Recorded } from '@tenterhook/store/results'
import type { Log } from '@tenterhook/telemetry/log'
import type { Metrics } from '@tenterhook/telemetry/metrics'
import type { Tracing } from '@tenterhook/telemetry/trace'
import { requestOf } from './request.ts'
import type { AttemptOutcome, SendOutcome } from './outcome.ts'
import { decide, type Decision } from './schedule.ts'
import type { Sender } from './send.ts'
import type { Health } from './health.ts'
import type { LeaseAnswer, Leases } from './leases.ts'
import type { Results } from './results.ts'
import type { Hint, Slot } from './slots.ts'
import type { Target } from './targets.ts'

export interface DeliverDeps {
  leases: Leases
  targetOf: (leased: Leased) => Promise<Target>
  /** Of an event whose body was too large to come with the lease. */
  readBody: (id: EventId) => Promise<Buffer>
  sender: Sender
  results: Results
  /** Gives a lease back under which nothing was sent. */
  release: (leased: Leased, delayMs: number) => Promise<unknown>
  /** Asks for the destination's next deliveries (T3). */
  feed: (destinations: readonly { id: DestinationId; tenant: string }[]) => void
  health: Health
  /** A lease could not be asked for: Postgres is away. */
  onLeaseFailed: (error: unknown) => void
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
 * Lease → guard → sign → send → record → decide, for one admitted delivery and with a slot in hand. Brought here by a job or by the sweep: the lease decides whether anything is sent at
 * all, so it doesn't matter how often or how late it is brought.
 *
 * Resolves when the lease was granted or refused, and never rejects: the attempt goes on by itself. From then on its
 * row alone says what becomes of it, and neither a job that comes back nor a second sweep could get a lease.
 */
export async function deliver(hint: Hint, slot: Slot, deps: DeliverDeps, stop: AbortSignal): Promise<void> {
  // Before the lease is asked for: its time runs from here at the latest. This clock stands still while the machine is
  // suspended, and Postgres's doesn't: what wakes up after its lease sends once more, as after any stop (PROTOCOL §5).
  const askedMs = deps.clock.monotonicMs()
  let answer: LeaseAnswer = { kind: 'stale' }
  try {
    answer = await deps.leases.take(hint.id, hint.generation)
  } catch (error) {
    deps.onLeaseFailed(error)
  }
  if (answer.kind === 'refused') {
    // Postgres said so some time after it was asked; asking it again takes as long.
    const passedMs = deps.clock.monotonicMs() - askedMs
    return slot.refused(answer.waitMs === null ? null : answer.waitMs - passedMs)
  }
  if (answer.kind === 'stale') return slot.stale()
  const { leased } = answer
  slot.leased()
  deps.probe('dispatcher.after_lease')
  deps.metrics.deliveriesInFlight.inc()
  void attempt(leased, askedMs + leased.leaseMs, deps, stop)
    .catch((error: unknown) =>
      deps.log.error(
        { event: 'delivery.failed', id: hint.id, error },
        'an attempt broke off; its lease runs out and it is tried again',
      ),
    )
    .finally(() => {
      deps.metrics.deliveriesInFlight.dec()
      slot.give()
    })
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
  const running = deps.health.begin(leased.destinationId, target.timeoutMs)
  const outcome =
    prepared.kind === 'blocked'
      ? prepared
      : await deps.sender.send(prepared.request, {
          signal: stop,
          // A lease that ends before the attempt can may be another's by then: nothing is sent.
          beforeFirstByte: () => deps.clock.monotonicMs() + target.timeoutMs + recordMs <= leaseEndsMs,
        })
  running.end(durationOf(outcome))
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
    deps.feed([{ id: leased.destinationId, tenant: leased.tenant }])
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
  deps.feed([{ id: leased.destinationId, tenant: leased.tenant }])
  consumer.end()
  report(leased, target, outcome, decision, recorded, consumer.traceId, deps)
  deps.probe('dispatcher.after_feed')
}

function resultOf(leased: Leased, outcome: AttemptOutcome, decision: Decision, startedAtMs: number): AttemptResult {
  const answered = outcome.kind === 'delivered' || outcome.kind === 'rejected' ? outcome : undefined
  const failed = outcome.kind === 'unreachable' || outcome.kind === 'blocked' ? outcome : undefined
  return {
    id: leased.id,
    token: leased.token,
    next: nextOf(decision, leased),
    attempt: {
      number: leased.attempt,
      destinationVersion: leased.destinationVersion,
      leasedAt: leased.leasedAt,
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

/** How long the destination took; nothing when nothing was asked of it, or when we broke it off. */
function durationOf(outcome: SendOutcome): number | undefined {
  if (outcome.kind === 'abandoned' || outcome.kind === 'blocked') return undefined
  return outcome.kind === 'unreachable' && outcome.code === 'aborted' ? undefined : outcome.timings.totalMs
}

function nextOf(decision: Decision, leased: Leased): AttemptResult['next'] {
  switch (decision.kind) {
    case 'done':
      return { kind: 'delivered', heals: leased.failing }
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
  decision: Decision,
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
  // One that was to be tried again, had it not been over its maximum age by then.
  const reason: DeadReason = decision.kind === 'dead' ? decision.reason : 'expired'
  deps.metrics.deadLetters.inc({ destination, reason })
  deps.log.error({ event: 'delivery.dead', ...fields, reason }, 'a delivery is a dead letter; it can be retried')
}
