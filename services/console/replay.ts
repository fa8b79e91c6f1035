import { invariant } from '@tenterhook/lifecycle/invariant'
import { deliveryTerms } from '@tenterhook/rules/delivery-terms'
import { compileRules, matchRules, type Mismatch } from '@tenterhook/rules/match'
import { buildSubject } from '@tenterhook/rules/subject'
import {
  deriveDeliveryId,
  type ConnectionId,
  type DeliveryId,
  type DestinationId,
  type EventId,
} from '@tenterhook/schemas/ids'
import type { Config, Connection } from '@tenterhook/store/config'
import type { EventSummary } from '@tenterhook/store/list-events'
import type { EventContent } from '@tenterhook/store/read-event'
import type { Remembered } from '@tenterhook/store/remembered'
import type { Replayed } from '@tenterhook/store/replay'
import type { NewDelivery } from '@tenterhook/store/route'
import type { Tracing } from '@tenterhook/telemetry/trace'

export interface ReplayRequest {
  eventId: EventId
  /** The Idempotency-Key: of all requests that bear it, one replays, and all get its answer. */
  key: string
  /** Names of the connections to go over; all of the source's when absent. */
  only?: readonly string[] | undefined
}

/** Kept with the deliveries, and given again to a repeated key. */
export interface ReplayAnswer {
  event: EventId
  only: readonly string[] | null
  deliveries: { id: DeliveryId; connection: { id: ConnectionId; name: string }; destination: { id: DestinationId } }[]
  notMatched: Mismatch[]
}

export type ReplayOutcome =
  | { kind: 'replayed'; answer: ReplayAnswer; repeated: boolean }
  | { kind: 'event_unknown' }
  /** It has not been routed for the first time yet. */
  | { kind: 'not_routed' }
  | { kind: 'connections_unknown'; names: string[] }
  /** Another request bore this key. */
  | { kind: 'key_used' }
  /** The configuration kept changing. */
  | { kind: 'config_unsettled' }

export interface ReplayDeps {
  recall: (key: string) => Promise<Remembered | undefined>
  readEvent: (id: EventId) => Promise<{ event: EventSummary; content: EventContent } | undefined>
  readConfig: () => Promise<Config>
  /** T10, durably. */
  commit: (replay: {
    key: string
    eventId: EventId
    configVersion: number
    result: string
    deliveries: NewDelivery[]
  }) => Promise<Replayed>
  /** Asks for the destinations to be fed (T3). */
  feed: (destinationIds: readonly DestinationId[]) => void
  tracing: Pick<Tracing, 'startSpan'>
  nowMs: () => number
}

/** Changes of the configuration that one replay sits out. */
const configTriesMax = 5

/**
 * Recall the key → read the event → match today's connections → commit deliveries and answer together → ask for
 * feeding. An event's history is never edited: a replay makes new deliveries, under ids of their own.
 */
export async function replay(request: ReplayRequest, deps: ReplayDeps): Promise<ReplayOutcome> {
  const before = await recalled(request, deps)
  if (before) return before
  const found = await deps.readEvent(request.eventId)
  if (!found) return { kind: 'event_unknown' }
  if (found.event.state === 'accepted') return { kind: 'not_routed' }

  for (let attempt = 0; attempt < configTriesMax; attempt++) {
    const config = await deps.readConfig()
    const connections = config.connections.filter((connection) => connection.sourceId === found.event.source.id)
    const names = request.only?.filter((name) => !connections.some(({ spec }) => spec.name === name)) ?? []
    if (names.length > 0) return { kind: 'connections_unknown', names }

    const chosen = connections.filter(({ spec }) => request.only?.includes(spec.name) ?? true)
    const { answer, deliveries } = decide(request, found, chosen, deps)
    const { eventId, key } = request
    const replayed = await deps.commit({
      key,
      eventId,
      configVersion: config.version,
      result: JSON.stringify(answer),
      deliveries,
    })
    switch (replayed.kind) {
      case 'replayed':
        deps.feed([...new Set(deliveries.map((delivery) => delivery.destinationId))])
        return { kind: 'replayed', answer, repeated: false }
      case 'key_known': {
        const first = await recalled(request, deps)
        invariant(first, 'a key that is taken can be read')
        return first
      }
      case 'config_changed':
        continue
      case 'event_gone':
        return { kind: 'event_unknown' }
    }
  }
  return { kind: 'config_unsettled' }
}

async function recalled(request: ReplayRequest, deps: ReplayDeps): Promise<ReplayOutcome | undefined> {
  const first = await deps.recall(request.key)
  if (!first) return undefined
  if (first.kind !== 'replay' || first.targetId !== request.eventId) return { kind: 'key_used' }
  const answer = JSON.parse(first.result) as ReplayAnswer
  const same = JSON.stringify(answer.only) === JSON.stringify(request.only ?? null)
  return same ? { kind: 'replayed', answer, repeated: true } : { kind: 'key_used' }
}

function decide(
  { eventId, key, only }: ReplayRequest,
  { event, content }: { event: EventSummary; content: EventContent },
  connections: readonly Connection[],
  { tracing, nowMs }: ReplayDeps,
): { answer: ReplayAnswer; deliveries: NewDelivery[] } {
  invariant(content.body, 'a replay reads the body whole')
  const { headers, query, path, body } = content
  const subject = buildSubject({
    headers,
    query,
    path,
    body,
    type: event.type ?? undefined,
    source: event.source.name ?? '',
  })
  const { matched, mismatches } = matchRules(compileRules(connections), subject)
  const madeMs = nowMs()
  const deliveries = matched.map((connection) => ({
    ...deliveryTerms(connection, subject),
    id: deriveDeliveryId(eventId, connection.id, { key, nowMs: madeMs }),
    eventId,
    connectionName: connection.spec.name,
    traceparent: producerContext(tracing, content.traceparent),
  }))
  const shown = deliveries.map(({ id, connectionId, connectionName, destinationId }) => ({
    id,
    connection: { id: connectionId, name: connectionName },
    destination: { id: destinationId },
  }))
  return { answer: { event: eventId, only: only ?? null, deliveries: shown, notMatched: mismatches }, deliveries }
}

/** One trace from the sender's request to the destination's, over the replay too (I9). */
function producerContext(tracing: Pick<Tracing, 'startSpan'>, parent: string | null): string {
  const producer = tracing.startSpan('replay deliver', { kind: 'producer', parent: parent ?? undefined })
  producer.end()
  return producer.traceparent
}
