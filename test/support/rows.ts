import type { DeliveryState, EventState } from '@tenterhook/schemas/states'
import type { Store } from '@tenterhook/store/connect'
import { until } from './poll.ts'

/** What tests look up in a stack's tables: the truth, past every cache and API. */

export type DeliveryRow = {
  id: string
  event: string
  connection: string
  destination: string
  state: DeliveryState
  deadReason: string | null
  attempt: number
  failures: number
  lostLeases: number
  /** From now until it is due by the protocol's clock; null when it has ended. */
  dueInMs: number | null
  replayOf: string | null
}

export type AttemptRow = {
  number: number
  outcome: string
  status: number | null
  code: string | null
  detail: string | null
  address: string | null
  responseHeaders: [string, string][] | null
  responseBody: Buffer | null
  responseTruncated: boolean
  timings: Record<string, number>
}

export async function deliveriesOf({ durable }: Store, eventId?: string): Promise<DeliveryRow[]> {
  const { rows } = await durable.query<DeliveryRow>(
    `SELECT d.id, d.event_id AS event, c.name AS connection, t.name AS destination, d.state, d.dead_reason AS "deadReason",
       d.attempt, d.failures, d.lost_leases AS "lostLeases", d.replay_of AS "replayOf",
       (extract(epoch FROM coalesce(d.wake_at, d.due_at) - clock()) * 1000)::float8 AS "dueInMs"
     FROM deliveries d JOIN connections c ON c.id = d.connection_id JOIN destinations t ON t.id = d.destination_id
     WHERE $1::text IS NULL OR d.event_id = $1 ORDER BY c.name, d.id`,
    [eventId ?? null],
  )
  return rows
}

export async function attemptsOf({ durable }: Store, deliveryId: string): Promise<AttemptRow[]> {
  type Raw = Omit<AttemptRow, 'responseHeaders' | 'timings'> & { responseHeaders: string | null; timings: string }
  const { rows } = await durable.query<Raw>(
    `SELECT number, outcome, status, code, detail, address, response_headers AS "responseHeaders",
       response_body AS "responseBody", response_truncated AS "responseTruncated", timings
     FROM attempts WHERE delivery_id = $1 ORDER BY number`,
    [deliveryId],
  )
  return rows.map((row) => ({
    ...row,
    responseHeaders: row.responseHeaders === null ? null : (JSON.parse(row.responseHeaders) as [string, string][]),
    timings: JSON.parse(row.timings) as Record<string, number>,
  }))
}

export async function eventStateOf({ durable }: Store, id: string): Promise<EventState | undefined> {
  const { rows } = await durable.query<{ state: EventState }>('SELECT state FROM events WHERE id = $1', [id])
  return rows[0]?.state
}

export type Unfinished = { events: number; deliveries: number }

export async function unfinished({ durable }: Store): Promise<Unfinished> {
  const { rows } = await durable.query<Unfinished>(
    `SELECT (SELECT count(*)::int FROM events WHERE due_at IS NOT NULL) AS events,
       (SELECT count(*)::int FROM deliveries WHERE due_at IS NOT NULL) AS deliveries`,
  )
  return rows[0] ?? { events: 0, deliveries: 0 }
}

/** Waits until every event is routed and every delivery has ended, by nobody's hand. */
export async function drained(store: Store, timeoutMs = 15_000): Promise<void> {
  let left: Unfinished | undefined
  await until(
    async () => {
      left = await unfinished(store)
      return left.events === 0 && left.deliveries === 0
    },
    { what: 'everything to be routed and delivered', timeoutMs, everyMs: 50 },
  ).catch(async (error: unknown) => {
    throw new Error(`not drained: ${JSON.stringify(left)}, of these ${JSON.stringify(await someUnfinished(store))}`, {
      cause: error,
    })
  })
}

async function someUnfinished({ durable }: Store): Promise<unknown[]> {
  const { rows } = await durable.query<Record<string, unknown>>(
    `SELECT id, state, attempt, generation, due_at - clock() AS due, wake_at - clock() AS wake FROM deliveries WHERE due_at IS NOT NULL
     UNION ALL SELECT id, state, route_tries, 0, due_at - clock(), NULL FROM events WHERE due_at IS NOT NULL LIMIT 5`,
  )
  return rows
}
