/**
 * DESIGN §3's invariants, asked of the tables, of what the senders were told and of what the receiver got, after
 * everything has drained:
 *
 * I1. what was answered 2xx reached every destination; I2. what was delivered was committed; I3. one event per dedupe
 * key, one delivery per event and connection; I4. no delivery was sent twice unless the fault explains it; I5. the
 * exact bytes arrived, under a valid signature; I6. no unfinished row is left, nor one without a wake-up time.
 */
import { headerValues, soleHeader } from '@tenterhook/schemas/headers'
import type { HeaderPairs } from '@tenterhook/schemas/headers'
import type { Store } from '@tenterhook/store/connect'
import { Webhook } from 'standardwebhooks'
import { acceptedAs, loadPaths, loadSigningSecret } from '../support/load.ts'
import type { Sent } from '../support/load.ts'
import type { Received } from '../support/receiver.ts'

export type Journal = {
  sent: readonly Sent[]
  received: readonly Received[]
  /** Deliveries that the fault may have sent more than once; default none. */
  mayRepeat?: (deliveryId: string, requests: readonly Received[]) => boolean
  /** Events before this place in the order of acceptance are another test's. */
  afterSeq?: number
}

export type Tally = { events: number; deliveries: number; requests: number; repeats: number }

type EventRow = { id: string; state: string; headers: string; sha256: string }
type DeliveryRow = { id: string; event_id: string; destination: string; state: string; replayed: boolean }

const violationsShown = 20

/** Throws an error that tells the violations; says what there was to see. */
export async function checkInvariants({ durable }: Store, journal: Journal): Promise<Tally> {
  const { sent, received, mayRepeat = () => false, afterSeq = 0 } = journal
  const violations: string[] = []
  const say = (invariant: string, what: string) => violations.push(`${invariant}: ${what}`)

  const { rows: loose } = await durable.query<{ id: string; state: string; due: boolean }>(
    `SELECT id, state, due_at IS NOT NULL AS due FROM events WHERE (state = 'accepted') OR due_at IS NOT NULL
     UNION ALL SELECT id, state, due_at IS NOT NULL FROM deliveries
     WHERE state NOT IN ('delivered', 'dead', 'cancelled') OR due_at IS NOT NULL OR admitted OR lease_token IS NOT NULL`,
  )
  for (const { id, state, due } of loose) say('I6', `${id} is ${state}${due ? '' : ' without a wake-up time'}`)

  const { rows: events } = await durable.query<EventRow>(
    `SELECT e.id, e.state, t.headers, encode(sha256(t.body), 'hex') AS sha256
     FROM events e JOIN event_content t ON t.event_id = e.id WHERE e.seq > $1`,
    [afterSeq],
  )
  const { rows: deliveries } = await durable.query<DeliveryRow>(
    `SELECT d.id, d.event_id, t.name AS destination, d.state, d.replay_of IS NOT NULL AS replayed
     FROM deliveries d JOIN destinations t ON t.id = d.destination_id JOIN events e ON e.id = d.event_id WHERE e.seq > $1`,
    [afterSeq],
  )
  const byKey = Map.groupBy(
    events,
    (event) => soleHeader(JSON.parse(event.headers) as HeaderPairs, 'x-github-delivery') ?? '',
  )
  const byEvent = Map.groupBy(deliveries, (delivery) => delivery.event_id)
  const byDelivery = Map.groupBy(received, (request) => headerValues(request.headers, 'webhook-id').join())
  const shaOf = new Map(events.map((event) => [event.id, event.sha256]))

  for (const one of sent) {
    const [event, ...more] = byKey.get(one.key) ?? []
    if (more.length > 0) say('I3', `${one.key} became ${more.length + 1} events`)
    const told = acceptedAs(one)
    if (told !== undefined && event?.id !== told)
      say('I1', `${one.key} was accepted as ${told}, and the tables have ${event?.id}`)
    if (event !== undefined && event.sha256 !== one.sha256)
      say('I5', `${event.id} is kept with other bytes than were sent`)
  }

  for (const event of events) {
    if (event.state !== 'routed') say('I1', `${event.id} ended ${event.state}`)
    const its = (byEvent.get(event.id) ?? []).filter((delivery) => !delivery.replayed)
    const paths = its.map((delivery) => `/${delivery.destination}`).toSorted()
    if (paths.join() !== loadPaths.join()) say('I3', `${event.id} has deliveries to ${paths.join()}`)
  }

  let repeats = 0
  for (const delivery of deliveries) {
    const requests = byDelivery.get(delivery.id) ?? []
    if (delivery.state !== 'delivered') say('I1', `${delivery.id} ended ${delivery.state}`)
    if (requests.length === 0) say('I1', `${delivery.id} is ${delivery.state} and never arrived`)
    if (requests.length > 1) repeats += requests.length - 1
    if (requests.length > 1 && !mayRepeat(delivery.id, requests))
      say('I4', `${delivery.id} was sent ${requests.length} times`)
    for (const request of requests) {
      if (request.path !== `/${delivery.destination}`)
        say('I2', `${delivery.id} for ${delivery.destination} arrived at ${request.path}`)
      if (request.sha256 !== shaOf.get(delivery.event_id)) say('I5', `${delivery.id} arrived with other bytes`)
      if (request.path === '/signed' && !isSigned(request)) say('I5', `${delivery.id} arrived under no valid signature`)
    }
  }
  const known = new Set(deliveries.map((delivery) => delivery.id))
  for (const id of byDelivery.keys()) if (!known.has(id)) say('I2', `${id} arrived, and the tables don't have it`)

  if (violations.length > 0)
    throw new Error(`${violations.length} violations:\n${violations.slice(0, violationsShown).join('\n')}`)
  return { events: events.length, deliveries: deliveries.length, requests: received.length, repeats }
}

const webhook = new Webhook(loadSigningSecret)

/** Whether the signature is the one of its id, time and bytes. Its age is not asked: tests shift the clock. */
function isSigned({ headers, body }: Received): boolean {
  const timestamp = new Date(Number(soleHeader(headers, 'webhook-timestamp')) * 1_000)
  const expected = webhook.sign(soleHeader(headers, 'webhook-id') ?? '', timestamp, body.toString('utf8'))
  return soleHeader(headers, 'webhook-signature') === expected
}

/** The highest place in the order of acceptance so far: what a journal that begins now comes after. */
export async function lastSeq({ durable }: Store): Promise<number> {
  const { rows } = await durable.query<{ seq: string | null }>('SELECT max(seq) AS seq FROM events')
  return Number(rows[0]?.seq ?? 0)
}
