import type { EventId, SourceId } from '@tenterhook/schemas/ids'
import type { HeaderPairs } from '@tenterhook/schemas/headers'
import type { Db } from './connect.ts'

export interface ClaimedEvent {
  id: EventId
  /** Its place in the order of acceptance: a bigint, as text. */
  seq: string
  sourceId: SourceId
  type: string | null
  path: string
  query: string
  headers: HeaderPairs
  body: Buffer
  traceparent: string | null
  /** How often routing was begun, this time included. */
  tries: number
  receivedAtMs: number
}

/** Tries after which an event is routed alone, and after which it ends unroutable (DESIGN §3.10). */
export const triesTogetherMax = 2
export const triesMax = 5

/** Bodies that are read in one statement: what a router holds of them at a time. */
const bodyBytesTogetherMax = 16 * 1_048_576

interface Row {
  id: EventId
  seq: string
  source_id: SourceId
  type: string | null
  path: string
  query: string
  headers: string
  body: Buffer
  traceparent: string | null
  route_tries: number
  received_ms: number
}

const claimed = `
  SELECT c.id, c.seq, c.source_id, c.type, t.path, t.query, t.headers, t.body, t.traceparent, c.route_tries,
         (extract(epoch FROM c.received_at) * 1000)::float8 AS received_ms
  FROM counted c JOIN event_content t ON t.event_id = c.id ORDER BY c.seq`

/**
 * Hands over what routing reads of the accepted ones among these events (of large bodies the first few: ask again for the
 * rest), for the first time: their job came straight from
 * ingest. No try is counted, which spares an update of each event; a job that comes back is not routed (its router may
 * have died of it), so whatever fails once is the sweep's, which counts.
 */
export async function readAcceptedEvents(db: Db, ids: readonly EventId[]): Promise<ClaimedEvent[]> {
  const { rows } = await db.query<Row>({
    name: 'read_accepted',
    text: `SELECT e.id, e.seq, e.source_id, e.type, t.path, t.query, t.headers, t.body, t.traceparent, e.route_tries,
        (extract(epoch FROM e.received_at) * 1000)::float8 AS received_ms
      FROM (SELECT *, sum(body_bytes) OVER (ORDER BY seq) - body_bytes AS bytes_before FROM events
            WHERE id = ANY($1::text[]) AND state = 'accepted' AND route_tries = 0) e
      JOIN event_content t ON t.event_id = e.id
      WHERE e.bytes_before < $2 ORDER BY e.seq`,
    values: [ids, bodyBytesTogetherMax],
  })
  return rows.map(fromRow)
}

/**
 * T2s: claims events whose wake-up time has come, at most `rowsMax` together, or one that must go alone, and counts a try
 * for each before any of the work (DESIGN §3.10).
 * Each claim moves the wake-up on, further with each try, so that copies of the router don't repeat each other.
 */
export async function claimDueEvents(db: Db, rowsMax: number, routeWaitMs: number): Promise<ClaimedEvent[]> {
  const claim = (alone: boolean) =>
    db.query<Row>({
      name: alone ? 'claim_due_alone' : 'claim_due',
      text: `WITH due AS MATERIALIZED (
          SELECT id, due_at, body_bytes FROM events
          WHERE due_at IS NOT NULL AND due_at <= clock() AND route_tries ${alone ? '>=' : '<'} $3 AND route_tries < $4
          ORDER BY due_at LIMIT $1),
        picked AS MATERIALIZED (SELECT id, sum(body_bytes) OVER (ORDER BY due_at, id) - body_bytes AS bytes_before FROM due),
        mine AS MATERIALIZED (
          SELECT e.id FROM picked JOIN events e ON e.id = picked.id
          WHERE picked.bytes_before < $5 AND e.due_at IS NOT NULL AND e.due_at <= clock() AND e.route_tries ${alone ? '>=' : '<'} $3 AND e.route_tries < $4
          ORDER BY e.id FOR UPDATE OF e SKIP LOCKED),
        counted AS (
          UPDATE events e SET route_tries = e.route_tries + 1, due_at = clock() + $2 * (e.route_tries + 1) * interval '1 millisecond'
          FROM mine WHERE e.id = mine.id
          RETURNING e.id, e.source_id, e.type, e.route_tries, e.received_at, e.seq)
        ${claimed}`,
      values: [alone ? 1 : rowsMax, routeWaitMs, triesTogetherMax, triesMax, bodyBytesTogetherMax],
    })
  const together = await claim(false)
  const { rows } = together.rows.length > 0 ? together : await claim(true)
  return rows.map(fromRow)
}

/** Takes a counted try back, of events whose routing failed for a reason of ours (Postgres away, a configuration that can't be read). */
export async function uncountTries(db: Db, ids: readonly EventId[]): Promise<void> {
  await db.query({
    name: 'uncount',
    text: `UPDATE events SET route_tries = greatest(0, route_tries - 1) WHERE id = ANY($1::text[]) AND state = 'accepted'`,
    values: [ids],
  })
}

/** Ends the due events whose tries are used up as `unroutable`: seen, and replayable. Says which. */
export async function endUnroutable(db: Db, rowsMax: number): Promise<EventId[]> {
  const { rows } = await db.query<{ id: EventId }>({
    name: 'end_unroutable',
    text: `WITH mine AS MATERIALIZED (
        SELECT id FROM events WHERE due_at IS NOT NULL AND due_at <= clock() AND route_tries >= $2
        ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED)
      UPDATE events e SET state = 'unroutable', due_at = NULL, routed_at = clock() FROM mine WHERE e.id = mine.id RETURNING e.id`,
    values: [rowsMax, triesMax],
  })
  return rows.map((row) => row.id)
}

function fromRow(row: Row): ClaimedEvent {
  return {
    id: row.id,
    seq: row.seq,
    sourceId: row.source_id,
    type: row.type,
    path: row.path,
    query: row.query,
    headers: JSON.parse(row.headers) as HeaderPairs,
    body: row.body,
    traceparent: row.traceparent,
    tries: row.route_tries,
    receivedAtMs: row.received_ms,
  }
}
