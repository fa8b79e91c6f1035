import type { EventId } from '@tenterhook/schemas/ids'
import type { HeaderPairs } from '@tenterhook/schemas/headers'
import type { Db } from './connect.ts'

/** What was received, credentials redacted, and what routing said. */
export interface EventContent {
  id: EventId
  method: string
  /** What follows `/in/<source>`. */
  path: string
  /** Without the `?`. */
  query: string
  headers: HeaderPairs
  /** Null when it has more than the bytes asked for. */
  body: Buffer | null
  traceparent: string | null
  remoteAddress: string | null
  /** As routing kept it: for each connection that did not match, why. Null when there was nothing to say. */
  notMatched: unknown
}

/** One event's content, its body only when it has at most `bodyBytesMax`. Undefined: there is no such event. */
export async function readEventContent(db: Db, id: string, bodyBytesMax: number): Promise<EventContent | undefined> {
  const { rows } = await db.query<{
    id: EventId
    method: string
    path: string
    query: string
    headers: string
    body: Buffer | null
    traceparent: string | null
    remote_address: string | null
    routing: string | null
  }>({
    name: 'event_content',
    text: `SELECT e.id, t.method, t.path, t.query, t.headers, CASE WHEN e.body_bytes <= $2 THEN t.body END AS body,
        t.traceparent, t.remote_address, e.routing
      FROM events e JOIN event_content t ON t.event_id = e.id WHERE e.id = $1`,
    values: [id, bodyBytesMax],
  })
  const row = rows[0]
  return (
    row && {
      id: row.id,
      method: row.method,
      path: row.path,
      query: row.query,
      headers: JSON.parse(row.headers) as HeaderPairs,
      body: row.body,
      traceparent: row.traceparent,
      remoteAddress: row.remote_address,
      notMatched: row.routing === null ? null : (JSON.parse(row.routing) as unknown),
    }
  )
}
