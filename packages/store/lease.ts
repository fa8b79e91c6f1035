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
  leaseMs: number
  expiresInMs: number
  traceparent: string | null
  path: string
  query: string
  headers: HeaderPairs
  /** Null when it is larger than `bodyBytesInLine`: read it apart, just before it is sent. */
  body: Buffer | null
}

/**
 * T4: takes leases by compare-and-set. Of the given deliveries only those are returned that were queued in exactly
 * this generation and whose destination is open; every stale, doubled or resurrected job is missing from the answer.
 * A destination that is closed sends its delivery back to waiting; a deleted one ends it.
 * Waits for row locks: a live row that was skipped would lose its job.
 */
export async function lease(
  db: Db,
  wanted: ReadonlyArray<{ id: DeliveryId; generation: number; token: string }>,
): Promise<Leased[]> {
  const { rows } = await db.query<{
    id: DeliveryId
    lease_token: string
    attempt: number
    failures: number
    seq: string
    event_id: EventId
    source_id: SourceId
    connection_id: ConnectionId
    destination_id: DestinationId
    destination_version: number
    connection_version: number
    lease_ms: number
    expires_in_ms: number
    traceparent: string | null
    path: string
    query: string
    headers: string
    body: Buffer | null
  }>({
    name: 'lease',
    text: `WITH c AS MATERIALIZED (
        SELECT d.id, d.due_at, j.token, t.version AS destination_version, n.version AS connection_version, t.attempt_timeout_ms + $4 AS lease_ms,
          t.deleted_at IS NOT NULL AS gone, (t.paused OR t.closed_until > clock()) AS closed
        FROM deliveries d
        JOIN unnest($1::text[], $2::int[], $3::uuid[]) AS j(id, generation, token) ON j.id = d.id AND j.generation = d.generation
        JOIN destinations t ON t.id = d.destination_id
        JOIN connections n ON n.id = d.connection_id
        WHERE d.state = 'queued' ORDER BY d.id FOR UPDATE OF d),
      moved AS (
        UPDATE deliveries d SET
          state = CASE WHEN c.gone THEN 'dead' WHEN c.closed THEN 'pending' ELSE 'leased' END,
          dead_reason = CASE WHEN c.gone THEN 'destination_deleted' END,
          finished_at = CASE WHEN c.gone THEN clock() END,
          admitted = NOT (c.gone OR c.closed),
          attempt = d.attempt + CASE WHEN c.gone OR c.closed THEN 0 ELSE 1 END,
          lease_token = CASE WHEN c.gone OR c.closed THEN NULL ELSE c.token END,
          due_at = CASE WHEN c.gone THEN NULL WHEN c.closed THEN clock() ELSE c.due_at END,
          wake_at = CASE WHEN NOT (c.gone OR c.closed) THEN clock() + c.lease_ms * interval '1 millisecond' END
        FROM c WHERE d.id = c.id
        RETURNING d.*, c.destination_version, c.connection_version AS current_connection_version, c.lease_ms)
      SELECT m.id, m.lease_token, m.attempt, m.failures, m.seq, m.event_id, m.source_id, m.connection_id, m.destination_id,
        m.destination_version, m.current_connection_version AS connection_version, m.lease_ms,
        (extract(epoch FROM m.expires_at - clock()) * 1000)::float8 AS expires_in_ms, m.traceparent,
        t.path, t.query, t.headers, CASE WHEN octet_length(t.body) <= $5 THEN t.body END AS body
      FROM moved m JOIN event_content t ON t.event_id = m.event_id
      WHERE m.state = 'leased'`,
    values: [
      wanted.map((one) => one.id),
      wanted.map((one) => one.generation),
      wanted.map((one) => one.token),
      leaseMarginMs,
      bodyBytesInLine,
    ],
  })
  return rows.map((row) => ({
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
    leaseMs: row.lease_ms,
    expiresInMs: row.expires_in_ms,
    traceparent: row.traceparent,
    path: row.path,
    query: row.query,
    headers: JSON.parse(row.headers) as HeaderPairs,
    body: row.body,
  }))
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
