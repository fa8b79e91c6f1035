import { deriveDeliveryId, type DestinationId, type EventId } from '@tenterhook/schemas/ids'
import type { Probe } from '@tenterhook/schemas/probe'
import { deliveryTerms } from '@tenterhook/rules/delivery-terms'
import { matchRules } from '@tenterhook/rules/match'
import { buildSubject } from '@tenterhook/rules/subject'
import type { ClaimedEvent } from '@tenterhook/store/claim'
import type { Admitted } from '@tenterhook/store/feed'
import type { Routed, Routing } from '@tenterhook/store/route'
import type { Log } from '@tenterhook/telemetry/log'
import type { Metrics } from '@tenterhook/telemetry/metrics'
import type { Span, Tracing } from '@tenterhook/telemetry/trace'
import type { Rulebook } from './rulebook.ts'

export interface RouteDeps {
  rulebooks: { current(): Promise<Rulebook>; reload(): Promise<void> }
  commit: (configVersion: number, batch: readonly Routing[]) => Promise<Routed>
  /** Puts admitted deliveries on the deliver queue, best effort. */
  enqueue: (jobs: readonly Admitted[]) => void
  /** Asks for the destinations to be fed (T3). */
  feed: (destinations: ReadonlyArray<{ id: DestinationId; tenant: string }>) => void
  tracing: Tracing
  log: Log
  metrics: Metrics
  monotonicMs: () => number
  probe: Probe
}

/** Changes of the configuration that one batch sits out before it is left to the sweep. */
const rulebookTriesMax = 5
/** A feeder that knows the destination's tenant keeps it there. */
const unknownTenant = ''
/** Of a delivery that is admitted as it is made (PROTOCOL §1: +1 at each admission). */
const firstGeneration = 1

/** Match connections → filter → commit the deliveries → enqueue what was admitted → ask for the rest to be fed. */
export async function routeEvents(events: readonly ClaimedEvent[], deps: RouteDeps): Promise<void> {
  if (events.length === 0) return
  deps.probe('router.after_claim')
  const begunMs = deps.monotonicMs()
  for (let attempt = 0; attempt < rulebookTriesMax; attempt++) {
    const rulebook = await deps.rulebooks.current()
    const decided = decideAll(events, rulebook, deps)
    const routed = await deps.commit(
      rulebook.version,
      decided.map((one) => one.routing),
    )
    if (routed.kind === 'config_changed') {
      await deps.rulebooks.reload()
      continue
    }
    deps.probe('router.after_route')
    const moved = new Set(routed.eventIds)
    const mine = decided.filter((one) => moved.has(one.routing.eventId))
    deps.enqueue(routed.queued.map((one) => ({ ...one, generation: firstGeneration })))
    deps.feed([...routed.toFeed, ...waitingForOrder(mine, rulebook)])
    report(mine, rulebook, deps, deps.monotonicMs() - begunMs)
    deps.probe('router.after_feed')
    return
  }
  deps.log.warn(
    { event: 'route.put_off', events: events.length },
    'the configuration kept changing; the sweep routes these events',
  )
}

/** What is ordered waits for the routing of all earlier events of its source, wherever those go. */
function waitingForOrder(routed: readonly Decided[], rulebook: Rulebook): { id: DestinationId; tenant: string }[] {
  const ids = new Set<DestinationId>()
  for (const source of new Set(routed.map((one) => one.event.sourceId)))
    for (const { connection } of rulebook.rulesOf(source)) if (connection.spec.order) ids.add(connection.destinationId)
  return [...ids].map((id) => ({ id, tenant: unknownTenant }))
}

interface Decided {
  event: ClaimedEvent
  routing: Routing
  span: Span
}

function decideAll(events: readonly ClaimedEvent[], rulebook: Rulebook, deps: RouteDeps): Decided[] {
  const decided: Decided[] = []
  for (const event of events) {
    const span = deps.tracing.startSpan('process route', {
      kind: 'consumer',
      parent: event.traceparent ?? undefined,
      attributes: { 'tenterhook.event.id': event.id },
    })
    try {
      decided.push({ event, routing: decide(event, rulebook, span, deps.tracing), span })
    } catch (error) {
      // Left as it is: its tries are counted, and at the last it ends unroutable, where a person sees it.
      span.end({ error: String(error) })
      deps.log.error({ event: 'route.failed', id: event.id, tries: event.tries, error }, 'an event could not be routed')
    }
  }
  return decided
}

function decide(event: ClaimedEvent, rulebook: Rulebook, span: Span, tracing: Tracing): Routing {
  const subject = buildSubject({
    headers: event.headers,
    query: event.query,
    path: event.path,
    type: event.type ?? undefined,
    source: rulebook.nameOf(event.sourceId),
    body: event.body,
  })
  const { matched, mismatches } = matchRules(rulebook.rulesOf(event.sourceId), subject)
  return {
    eventId: event.id,
    sourceId: event.sourceId,
    seq: event.seq,
    reasons: mismatches.length === 0 ? null : JSON.stringify(mismatches),
    deliveries: matched.map((connection) => ({
      ...deliveryTerms(connection, subject),
      id: deriveDeliveryId(event.id, connection.id),
      eventId: event.id,
      traceparent: producerContext(tracing, span),
    })),
  }
}

/** The producer span of one delivery; what it hands on is its context, so it ends where it begins. */
function producerContext(tracing: Tracing, parent: Span): string {
  const producer = tracing.startSpan('send deliver', { kind: 'producer', parent: parent.traceparent })
  producer.end()
  return producer.traceparent
}

function report(routed: readonly Decided[], rulebook: Rulebook, deps: RouteDeps, durationMs: number): void {
  deps.metrics.routeDuration.observe(durationMs / 1_000)
  for (const { event, routing, span } of routed) {
    const outcome = routing.deliveries.length > 0 ? 'matched' : 'unmatched'
    span.set({ 'tenterhook.deliveries': routing.deliveries.length })
    span.end()
    deps.metrics.eventsRouted.inc({ outcome })
    deps.log.info({
      event: 'event.routed',
      id: event.id,
      source: rulebook.nameOf(event.sourceId),
      outcome,
      deliveries: routing.deliveries.length,
      durationMs: Math.round(durationMs * 10) / 10,
      traceId: span.traceId,
    })
  }
}

/** Poison that is at its end: what the log says of it. */
export function reportUnroutable(ids: readonly EventId[], deps: Pick<RouteDeps, 'log' | 'metrics'>): void {
  for (const id of ids) {
    deps.metrics.eventsRouted.inc({ outcome: 'unroutable' })
    deps.log.error({ event: 'event.unroutable', id }, 'routing this event failed too often; it can be replayed')
  }
}
