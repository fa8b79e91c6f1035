import type { DeadReason, AttemptOutcome } from '@tenterhook/schemas/states'
import type { ConnectionId, DeliveryId, DestinationId } from '@tenterhook/schemas/ids'
import type { DeliveryState } from '@tenterhook/schemas/states'
import type { Db } from './connect.ts'
import { byteaArray, textArray } from './binary.ts'
import { orderKeysOf, unblock } from './feed.ts'

export interface AttemptRow {
  number: number
  destinationVersion: number
  /** As the lease told it. */
  leasedAt: string
  startedAtMs: number
  outcome: AttemptOutcome
  status: number | null
  code: string | null
  detail: string | null
  address: string | null
  /** JSON of HeaderPairs. */
  responseHeaders: string | null
  responseBody: Buffer | null
  responseTruncated: boolean
  /** JSON of milliseconds. */
  timings: string
}

export interface AttemptResult {
  id: DeliveryId
  token: string
  next:
    /** `heals`: its destination had failed before, so that its breaker is to be told. */
    | { kind: 'delivered'; heals: boolean }
    /** `slowDestinationMs`: nothing more is leased for its destination for that long (429, 503, Retry-After). */
    | { kind: 'retry'; delayMs: number; slowDestinationMs?: number }
    /** `pauseReason`: its destination is paused until a person resumes it (410). */
    | { kind: 'dead'; reason: DeadReason; pauseReason?: string }
  attempt: AttemptRow
}

export interface Recorded {
  id: DeliveryId
  destinationId: DestinationId
  state: DeliveryState
}

/**
 * T5: records a batch of results and their attempts in one transaction, at most one result of a delivery in a batch
 * (in one UPDATE only one of two matching rows would count). A success always counts, but never ends another's
 * living lease; a failure counts only under its own token. What it says of its destination (slow down, gone, failing,
 * healed) holds from the same moment: the breaker is nothing but times and counts in the destination's row. What changed
 * nothing is missing from the answer.
 */
export async function recordResults(db: Db, results: readonly AttemptResult[]): Promise<Recorded[]> {
  const attempts = results.map((result) => result.attempt)
  const { rows } = await db.query<{
    id: DeliveryId
    destination_id: DestinationId
    state: DeliveryState
    connection_id: ConnectionId
    order_key: string | null
  }>({
    name: 'results',
    text: `WITH kept AS (
        INSERT INTO attempts (delivery_id, lease_token, number, destination_version, leased_at, started_at, outcome, status, code, detail, address,
                              response_headers, response_body, response_truncated, timings)
        SELECT * FROM unnest($1::text[], $2::uuid[], $6::int[], $7::int[], $20::timestamptz[], $8::timestamptz[], $9::text[], $10::int[], $11::text[], $12::text[],
                             $13::text[], $14::text[], $15::bytea[], $16::boolean[], $17::text[]) ORDER BY 1, 2
        ON CONFLICT DO NOTHING),
      l AS MATERIALIZED (
        SELECT d.id, d.destination_id, d.due_at, d.wake_at, d.lease_token, r.kind = 'delivered' AS ok, r.delay_ms, r.slow_ms, r.pause_reason, r.heals,
          r.kind = 'retry' OR r.reason = 'retries_used_up' AS fault,
          CASE
            WHEN r.kind = 'delivered' AND d.state = 'leased' AND d.lease_token <> r.token THEN 'leased'
            WHEN r.kind = 'delivered' OR d.succeeded THEN 'delivered'
            WHEN d.cancel_requested THEN 'cancelled'
            WHEN r.kind = 'dead' OR d.expires_at <= clock() + r.delay_ms * interval '1 millisecond' THEN 'dead'
            ELSE 'retrying' END AS next,
          CASE WHEN r.kind = 'dead' THEN r.reason ELSE 'expired' END AS reason
        FROM deliveries d JOIN unnest($1::text[], $2::uuid[], $3::text[], $4::float8[], $5::text[], $18::float8[], $19::text[], $21::boolean[])
          AS r(id, token, kind, delay_ms, reason, slow_ms, pause_reason, heals) ON r.id = d.id
        WHERE (r.kind = 'delivered' AND d.state <> 'delivered') OR (r.kind <> 'delivered' AND d.state = 'leased' AND d.lease_token = r.token)
        ORDER BY d.id FOR UPDATE OF d),
      told AS (
        -- Deliveries first, then destinations: T3 locks the other way round and skips locked deliveries (PROTOCOL §6).
        UPDATE destinations t SET
          closed_until = greatest(t.closed_until,
            CASE WHEN x.slow_ms > 0 THEN clock() + x.slow_ms * interval '1 millisecond' END,
            CASE WHEN breaker_trips(t, x.ok, x.faults) THEN clock() + breaker_pause(t.trips) END),
          trips = CASE WHEN x.ok THEN 0 ELSE t.trips + breaker_trips(t, x.ok, x.faults)::int END,
          failures_in_row = CASE WHEN x.ok THEN 0 ELSE t.failures_in_row + x.faults END,
          failing_since = CASE WHEN NOT x.ok AND x.faults > 0 THEN coalesce(t.failing_since, clock()) WHEN NOT x.ok THEN t.failing_since END,
          paused = t.paused OR x.pause_reason IS NOT NULL,
          pause_reason = coalesce(t.pause_reason, x.pause_reason)
        FROM (SELECT l.destination_id, max(l.slow_ms) AS slow_ms, min(l.pause_reason) AS pause_reason, bool_or(l.ok) AS ok, (count(*) FILTER (WHERE l.fault))::int AS faults
              FROM l GROUP BY l.destination_id HAVING bool_or(l.fault OR l.heals OR l.slow_ms > 0 OR l.pause_reason IS NOT NULL) ORDER BY l.destination_id) x
        WHERE t.id = x.destination_id)
      UPDATE deliveries d SET
        state = l.next,
        succeeded = d.succeeded OR l.ok,
        failures = d.failures + CASE WHEN l.ok THEN 0 ELSE 1 END,
        admitted = l.next = 'leased',
        lease_token = CASE WHEN l.next = 'leased' THEN l.lease_token END,
        wake_at = CASE WHEN l.next = 'leased' THEN l.wake_at END,
        due_at = CASE l.next WHEN 'leased' THEN l.due_at WHEN 'retrying' THEN clock() + l.delay_ms * interval '1 millisecond' END,
        dead_reason = CASE WHEN l.next = 'dead' THEN l.reason END,
        finished_at = CASE WHEN l.next IN ('delivered', 'dead', 'cancelled') THEN clock() END
      FROM l WHERE d.id = l.id
      RETURNING d.id, d.destination_id, d.state, d.connection_id, d.order_key`,
    values: [
      results.map((result) => result.id),
      results.map((result) => result.token),
      results.map((result) => result.next.kind),
      results.map((result) => (result.next.kind === 'retry' ? result.next.delayMs : 0)),
      results.map((result) => (result.next.kind === 'dead' ? result.next.reason : null)),
      attempts.map((attempt) => attempt.number),
      attempts.map((attempt) => attempt.destinationVersion),
      attempts.map((attempt) => new Date(attempt.startedAtMs).toISOString()),
      attempts.map((attempt) => attempt.outcome),
      attempts.map((attempt) => attempt.status),
      textArray(attempts.map((attempt) => attempt.code)),
      textArray(attempts.map((attempt) => attempt.detail)),
      textArray(attempts.map((attempt) => attempt.address)),
      textArray(attempts.map((attempt) => attempt.responseHeaders)),
      byteaArray(attempts.map((attempt) => attempt.responseBody)),
      attempts.map((attempt) => attempt.responseTruncated),
      textArray(attempts.map((attempt) => attempt.timings)),
      results.map((result) => (result.next.kind === 'retry' ? (result.next.slowDestinationMs ?? 0) : 0)),
      textArray(results.map((result) => (result.next.kind === 'dead' ? (result.next.pauseReason ?? null) : null))),
      attempts.map((attempt) => attempt.leasedAt),
      results.map((result) => result.next.kind === 'delivered' && result.next.heals),
    ],
  })
  // Not of the results' transaction: what a crash leaves blocked here, the router's order sweep finds.
  await unblock(db, orderKeysOf(rows))
  return rows.map((row) => ({ id: row.id, destinationId: row.destination_id, state: row.state }))
}

/** T11: gives back leases under which nothing was sent, to be leased again after `delayMs`. */
export async function releaseLeases(
  db: Db,
  leases: ReadonlyArray<{ id: DeliveryId; token: string }>,
  delayMs: number,
): Promise<DestinationId[]> {
  const { rows } = await db.query<{
    destination_id: DestinationId
    connection_id: ConnectionId
    order_key: string | null
  }>({
    name: 'release',
    text: `WITH l AS MATERIALIZED (
        SELECT d.id FROM deliveries d JOIN unnest($1::text[], $2::uuid[]) AS r(id, token) ON r.id = d.id AND r.token = d.lease_token
        WHERE d.state = 'leased' ORDER BY d.id FOR UPDATE OF d)
      UPDATE deliveries d SET
        state = CASE WHEN d.succeeded THEN 'delivered' WHEN d.cancel_requested THEN 'cancelled' ELSE 'retrying' END,
        admitted = false, lease_token = NULL, wake_at = NULL,
        due_at = CASE WHEN NOT (d.succeeded OR d.cancel_requested) THEN clock() + $3 * interval '1 millisecond' END,
        finished_at = CASE WHEN d.succeeded OR d.cancel_requested THEN clock() END
      FROM l WHERE d.id = l.id RETURNING d.destination_id, d.connection_id, d.order_key`,
    values: [leases.map((one) => one.id), leases.map((one) => one.token), delayMs],
  })
  await unblock(db, orderKeysOf(rows))
  return rows.map((row) => row.destination_id)
}
