import type { Request } from 'express'
import { z } from 'zod'
import { durationMs } from '@tenterhook/schemas/duration'
import type { ConnectionId, DeliveryId, DestinationId, DuplicateId, EventId } from '@tenterhook/schemas/ids'
import { name } from '@tenterhook/schemas/name'
import type { Connection } from '@tenterhook/store/config'
import type { ConnectionView } from '@tenterhook/store/list-connections'
import type { DeliverySummary } from '@tenterhook/store/list-deliveries'
import type { DestinationView } from '@tenterhook/store/list-destinations'
import type { Promoted } from '@tenterhook/store/promote'
import type { Remembered } from '@tenterhook/store/remembered'
import type { Retried } from '@tenterhook/store/retry'
import { idOf, nameOrIdOf, unknown } from './lookup.ts'
import { Refused } from './problem.ts'
import { replay, type ReplayDeps, type ReplayOutcome } from './replay.ts'
import { accepted, ok, type Handler, type Reply } from './reply.ts'
import { idempotencyKey, oneText, readBody } from './request.ts'

export interface ActionDeps extends ReplayDeps {
  readDelivery: (id: DeliveryId) => Promise<DeliverySummary | undefined>
  readConnection: (id: ConnectionId) => Promise<Connection | undefined>
  destinations: Pausable<DestinationView>
  connections: Pausable<ConnectionView>
  retry: (retry: { key: string; id: DeliveryId; maxAgeMs: number }) => Promise<Retried>
  cancel: (id: DeliveryId) => Promise<{ attemptInFlight: boolean } | undefined>
  promote: (id: DuplicateId) => Promise<Promoted>
  /** Puts the id on the route queue, best effort: the router's sweep covers. */
  enqueue: (eventId: EventId) => void
  /** One log line and one count for what an operator did. */
  report: (action: OperatorAction, fields: Readonly<Record<string, unknown>>, request: Request) => void
}

type Named = { id: string; name: string; deletedAt: Date | null }

/** What can be paused and resumed (T9). */
export interface Pausable<View extends Named> {
  read: (nameOrId: string) => Promise<View | undefined>
  /** Whether it was running before. */
  pause: (id: View['id'], reason: string) => Promise<boolean>
  /** The destination to be fed afterwards; undefined when there is nothing of that id to resume. */
  resume: (id: View['id']) => Promise<DestinationId | undefined>
}

export type OperatorAction = 'replayed' | 'retried' | 'cancelled' | 'paused' | 'resumed' | 'promoted'

const connectionsMax = 100
const replayFields = {
  connections: z.array(name).min(1, 'expected names of connections').max(connectionsMax).optional(),
}
const pauseFields = { reason: oneText.optional() }
/** Stands on an answer that was given before, to the same Idempotency-Key. */
const repeatedHeader = { 'Idempotent-Replayed': 'true' }

/** The changing half of the API, by path. What it answers 2xx is committed durably. */
export function actions(deps: ActionDeps): Record<string, Handler> {
  return {
    '/events/:id/replay': async (request) => {
      const eventId = idOf<EventId>(request, 'event')
      const only = readBody(request, replayFields).connections
      const key = idempotencyKey(request)
      const outcome = await replay({ eventId, key, only }, deps)
      if (outcome.kind === 'replayed' && !outcome.repeated) {
        deps.report('replayed', { id: eventId, deliveries: outcome.answer.deliveries.map(({ id }) => id) }, request)
      }
      return replayReply(outcome, eventId)
    },
    '/deliveries/:id/retry': (request) => retry(request, deps),
    '/deliveries/:id/cancel': (request) => cancel(request, deps),
    '/destinations/:id/pause': (request) => pause(request, 'destination', deps.destinations, deps),
    '/destinations/:id/resume': (request) => resume(request, 'destination', deps.destinations, deps),
    '/connections/:id/pause': (request) => pause(request, 'connection', deps.connections, deps),
    '/connections/:id/resume': (request) => resume(request, 'connection', deps.connections, deps),
    '/duplicates/:id/promote': (request) => promote(request, deps),
  }
}

function replayReply(outcome: ReplayOutcome, eventId: EventId): Reply {
  switch (outcome.kind) {
    case 'replayed':
      return accepted(outcome.answer, outcome.repeated ? repeatedHeader : {})
    case 'event_unknown':
      throw unknown('event', eventId)
    case 'not_routed':
      throw new Refused({
        status: 409,
        code: 'event_not_routed',
        detail: 'this event has not been routed yet: it will be by itself, and can be replayed then',
      })
    case 'connections_unknown':
      throw new Refused({
        status: 422,
        code: 'connection_unknown',
        detail: `connections: the event's source has no connection ${outcome.names.join(', ')}`,
      })
    case 'key_used':
      throw keyUsed()
    case 'config_unsettled':
      throw new Refused({
        status: 503,
        code: 'config_unsettled',
        detail: 'the configuration kept changing; nothing was replayed: try again',
        headers: { 'Retry-After': '1' },
      })
  }
}

async function retry(request: Request, deps: ActionDeps): Promise<Reply> {
  readBody(request, {})
  const id = idOf<DeliveryId>(request, 'delivery')
  const key = idempotencyKey(request)
  const delivery = await deps.readDelivery(id)
  const connection = delivery && (await deps.readConnection(delivery.connection.id))
  if (!connection) throw unknown('delivery', id)

  const retried = await deps.retry({ key, id, maxAgeMs: durationMs(connection.spec.retry.maxAge) })
  if (retried.kind === 'retried') {
    deps.feed([retried.destinationId])
    deps.report('retried', { id, was: retried.was }, request)
    return accepted({ id, was: retried.was })
  }
  // A request with the same key, long ago or a moment ago, may be why nothing was to be done.
  const first = retryAnswered(await deps.recall(key), id)
  if (first) return first
  switch (retried.kind) {
    case 'unknown':
    case 'key_known':
      throw unknown('delivery', id)
    case 'destination_deleted':
      throw new Refused({
        status: 409,
        code: 'destination_deleted',
        detail: 'the destination of this delivery is deleted; replay its event to deliver it elsewhere',
      })
    case 'refused':
      throw retried.state === 'delivered'
        ? new Refused({
            status: 409,
            code: 'already_delivered',
            detail: `this delivery has arrived; to send the event again: POST /v1/events/${delivery.eventId}/replay`,
          })
        : new Refused({
            status: 409,
            code: 'under_way',
            detail: `this delivery is ${retried.state}: its next attempt is under way`,
          })
  }
}

function retryAnswered(first: Remembered | undefined, id: DeliveryId): Reply | undefined {
  if (!first) return undefined
  if (first.kind !== 'retry' || first.targetId !== id) throw keyUsed()
  return accepted(JSON.parse(first.result), repeatedHeader)
}

async function cancel(request: Request, deps: ActionDeps): Promise<Reply> {
  readBody(request, {})
  const id = idOf<DeliveryId>(request, 'delivery')
  const cancelled = await deps.cancel(id)
  const delivery = await deps.readDelivery(id)
  if (!delivery) throw unknown('delivery', id)
  if (cancelled) {
    // Its place in the window is free.
    deps.feed([delivery.destination.id])
    deps.report('cancelled', { id, attemptInFlight: cancelled.attemptInFlight }, request)
    return ok({ id, attemptInFlight: cancelled.attemptInFlight })
  }
  if (delivery.state === 'cancelled') return ok({ id, attemptInFlight: false })
  throw new Refused({
    status: 409,
    code: 'already_ended',
    detail: `this delivery is ${delivery.state}: there is nothing left to cancel`,
  })
}

async function promote(request: Request, deps: ActionDeps): Promise<Reply> {
  readBody(request, {})
  const id = idOf<DuplicateId>(request, 'duplicate')
  const promoted = await deps.promote(id)
  switch (promoted.kind) {
    case 'promoted':
      deps.enqueue(promoted.eventId)
      deps.report('promoted', { id, event_id: promoted.eventId }, request)
      return accepted({ id, event: promoted.eventId })
    case 'already':
      return accepted({ id, event: promoted.eventId }, repeatedHeader)
    case 'equal':
      throw new Refused({
        status: 409,
        code: 'duplicate_equal',
        detail: "this duplicate has the event's own bytes: replay the event instead",
      })
    case 'unknown':
      throw unknown('duplicate', id)
  }
}

async function pause<View extends Named>(
  request: Request,
  kind: 'destination' | 'connection',
  pausable: Pausable<View>,
  { report }: ActionDeps,
): Promise<Reply> {
  const { reason } = readBody(request, pauseFields)
  const nameOrId = nameOrIdOf(request, kind)
  const found = await pausable.read(nameOrId)
  if (!found || found.deletedAt) throw unknown(kind, nameOrId)
  if (await pausable.pause(found.id, reason ?? 'paused by an operator')) {
    report('paused', { id: found.id, [kind]: found.name, reason }, request)
  }
  return ok(await pausable.read(found.id))
}

async function resume<View extends Named>(
  request: Request,
  kind: 'destination' | 'connection',
  pausable: Pausable<View>,
  { feed, report }: ActionDeps,
): Promise<Reply> {
  readBody(request, {})
  const nameOrId = nameOrIdOf(request, kind)
  const found = await pausable.read(nameOrId)
  const destination = found && (await pausable.resume(found.id))
  if (!found || !destination) throw unknown(kind, nameOrId)
  feed([destination])
  report('resumed', { id: found.id, [kind]: found.name }, request)
  return ok(await pausable.read(found.id))
}

function keyUsed(): Refused {
  return new Refused({
    status: 422,
    code: 'idempotency_key_reused',
    detail: 'Idempotency-Key: another request bore this key; take a new one for each thing to be done',
  })
}
