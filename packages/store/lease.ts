import type { ConnectionId, DeliveryId, DestinationId, EventId, SourceId } from '@tenterhook/schemas/ids'
import type { HeaderPairs } from '@tenterhook/schemas/headers'
import type { Db } from './connect.ts'

/** Beyond the attempt's own timeout: waiting for the lease's reply, recording the result. */
export const leaseMarginMs = 15_000

/** Larger bodies are not handed over in batches: a hundred of them would take longer than their leases. */
export const bodyBytesInLine = 256 * 1_024

export interface Leased {
  id: DeliveryId
  token: string
  attempt: number
  failures: number
  seq: number
  eventId: EventId
  sourceId: SourceId
  connectionId: ConnectionId
  destinationId: DestinationId
  /** Of the destination and connection as they stand now: decides URL, auth, limits, schedule. */
  destinationVersion: number
  connectionVersion: number
  tenant: string
  /** The destination has failed since its last success: a success is to be recorded as one that heals. */
  failing: boolean
  orderKey: string | null
  /** When the lease was taken, on Postgres's clock. */
  leasedAt: string
  leaseMs: number
  expiresInMs: number
  traceparent: string | null
  path: string
  query: string
  headers: HeaderPairs
  /** Null when it is larger than `bodyBytesInLine`: read it apart, just before it is sent. */
  body: Buffer | null
}

/** A delivery that stays queued because its destination has taken all it may at this moment. */
export interface Refused {
  id: DeliveryId
  generation: number
  destinationId: DestinationId
  /** Until its rate limit allows another. Null: its concurrency is used up, a result of it makes room. */
  waitMs: number | null
}

/** A delivery that its destination's rate limit keeps waiting for longer than this goes back to waiting in Postgres. */
const refusedWaitMsMax = 2_000

/**
 * T4: takes leases by compare-and-set. Of the given deliveries only those are answered that were queued in exactly this
 * generation and whose destination and connection are open; every stale, doubled or resurrected job is missing from the
 * answer. A destination that is closed sends its delivery back to waiting; a deleted one ends it; one at its limits refuses
 * what is over them. The lease of an ordered delivery waits for fsync (PROTOCOL §5), any other doesn't.
 * Waits for row locks: a live row that was skipped would lose its job.
 */
export async function lease(
  db: Db,
  wanted: ReadonlyArray<{ id: DeliveryId; generation: number; token: string }>,
): Promise<{ leased: Leased[]; refused: Refused[] }> {
  const { rows } = await db.query<{
    id: DeliveryId
    generation: number
    lease_token: string | null
    attempt: number
    failures: number
    seq: string
    event_id: EventId
    source_id: SourceId
    connection_id: ConnectionId
    destination_id: DestinationId
    destination_version: number
    connection_version: number
    tenant: string
    failing: boolean
    order_key: string | null
    leased_at: string
    lease_ms: number
    expires_in_ms: number
    wait_ms: number | null
    traceparent: string | null
    path: string
    query: string
    headers: string
    body: Buffer | null
  }>({
    name: 'lease',
    text: `WITH c AS MATERIALIZED (
        SELECT d.id, d.generation, d.seq, d.due_at, d.order_key, d.destination_id, j.token, t.tenant, t.failing_since IS NOT NULL AS failing,
          t.version AS destination_version, n.version AS connection_version, t.attempt_timeout_ms + $4 AS lease_ms,
          t.deleted_at IS NOT NULL AS gone, (t.paused OR t.closed_until > clock() OR n.paused) AS closed,
          t.trips > 0 OR coalesce(t.rate_per_second, t.rate_per_minute, t.rate_per_hour, t.concurrency) IS NOT NULL AS limited
        FROM deliveries d
        JOIN unnest($1::text[], $2::int[], $3::uuid[]) AS j(id, generation, token) ON j.id = d.id AND j.generation = d.generation
        JOIN destinations t ON t.id = d.destination_id
        JOIN connections n ON n.id = d.connection_id
        WHERE d.state = 'queued' ORDER BY d.id FOR UPDATE OF d),
      -- In the order of their ids: two batches with the same limited destinations would lock each other out.
      gate AS MATERIALIZED (
        SELECT g.destination_id, r.granted, r.wait_ms, r.at
        FROM (SELECT c.destination_id, count(*)::int AS wanted FROM c WHERE c.limited AND NOT c.gone AND NOT c.closed
              GROUP BY c.destination_id ORDER BY c.destination_id OFFSET 0) g, LATERAL take_leases_v1(g.destination_id, g.wanted) r),
      chosen AS MATERIALIZED (
        SELECT c.*, gate.at, gate.wait_ms,
          CASE WHEN c.gone THEN 'dead' WHEN c.closed THEN 'pending' WHEN gate.granted IS NULL OR c.place <= gate.granted THEN 'leased'
            WHEN gate.wait_ms > $6 THEN 'pending' ELSE 'queued' END AS next
        FROM (SELECT c.*, row_number() OVER (PARTITION BY c.destination_id, c.gone OR c.closed ORDER BY c.seq) AS place FROM c) c
        LEFT JOIN gate ON gate.destination_id = c.destination_id),
      ordered AS MATERIALIZED (
        SELECT set_config('synchronous_commit', 'on', true) FROM chosen WHERE order_key IS NOT NULL AND next = 'leased' LIMIT 1),
      moved AS (
        UPDATE deliveries d SET
          state = c.next,
          dead_reason = CASE WHEN c.next = 'dead' THEN 'destination_deleted' END,
          finished_at = CASE WHEN c.next = 'dead' THEN clock() END,
          admitted = c.next = 'leased',
          attempt = d.attempt + CASE WHEN c.next = 'leased' THEN 1 ELSE 0 END,
          lease_token = CASE WHEN c.next = 'leased' THEN c.token END,
          -- What goes back keeps its place in line.
          due_at = CASE c.next WHEN 'leased' THEN least(c.due_at, clock() + c.lease_ms * interval '1 millisecond') WHEN 'pending' THEN d.created_at END,
          wake_at = CASE WHEN c.next = 'leased' THEN coalesce(c.at, clock()) + c.lease_ms * interval '1 millisecond' END
        FROM chosen c WHERE d.id = c.id AND c.next <> 'queued'
        RETURNING d.*, c.destination_version, c.connection_version AS current_connection_version, c.lease_ms, c.tenant, c.failing,
          coalesce(c.at, clock()) AS leased_at)
      SELECT m.id, m.generation, m.lease_token, m.attempt, m.failures, m.seq, m.event_id, m.source_id, m.connection_id, m.destination_id,
        m.destination_version, m.current_connection_version AS connection_version, m.tenant, m.failing, m.order_key, m.leased_at::text, m.lease_ms,
        (extract(epoch FROM m.expires_at - clock()) * 1000)::float8 AS expires_in_ms, NULL::float8 AS wait_ms, m.traceparent,
        t.path, t.query, t.headers, CASE WHEN octet_length(t.body) <= $5 THEN t.body END AS body,
        -- Asked for, or it would not be carried out.
        (SELECT count(*) FROM ordered) AS synchronous
      FROM moved m JOIN event_content t ON t.event_id = m.event_id
      WHERE m.state = 'leased'
      UNION ALL
      SELECT c.id, c.generation, NULL, NULL, NULL, NULL, NULL, NULL, NULL, c.destination_id,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, c.wait_ms, NULL, NULL, NULL, NULL, NULL, NULL
      FROM chosen c WHERE c.next = 'queued'`,
    values: [
      wanted.map((one) => one.id),
      wanted.map((one) => one.generation),
      wanted.map((one) => one.token),
      leaseMarginMs,
      bodyBytesInLine,
      refusedWaitMsMax,
    ],
  })
  const leased: Leased[] = []
  const refused: Refused[] = []
  for (const row of rows) {
    if (row.lease_token === null) {
      refused.push({
        id: row.id,
        generation: row.generation,
        destinationId: row.destination_id,
        waitMs: row.wait_ms,
      })
      continue
    }
    leased.push({
      id: row.id,
      token: row.lease_token,
      attempt: row.attempt,
      failures: row.failures,
      seq: Number(row.seq),
      eventId: row.event_id,
      sourceId: row.source_id,
      connectionId: row.connection_id,
      destinationId: row.destination_id,
      destinationVersion: row.destination_version,
      connectionVersion: row.connection_version,
      tenant: row.tenant,
      failing: row.failing,
      orderKey: row.order_key,
      leasedAt: row.leased_at,
      leaseMs: row.lease_ms,
      expiresInMs: row.expires_in_ms,
      traceparent: row.traceparent,
      path: row.path,
      query: row.query,
      headers: JSON.parse(row.headers) as HeaderPairs,
      body: row.body,
    })
  }
  return { leased, refused }
}

/** The body of one event, as it was received. */
export async function readBody(db: Db, eventId: EventId): Promise<Buffer> {
  const { rows } = await db.query<{ body: Buffer }>({
    name: 'body',
    text: 'SELECT body FROM event_content WHERE event_id = $1',
    values: [eventId],
  })
  if (!rows[0]) throw new Error(`${eventId} has no content`)
  return rows[0].body
}
