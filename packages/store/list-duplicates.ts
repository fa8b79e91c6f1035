import type { DuplicateId, EventId } from '@tenterhook/schemas/ids'
import type { HeaderPairs } from '@tenterhook/schemas/headers'
import type { Db } from './connect.ts'
import { duplicatesPerEventMax } from './duplicates.ts'

/** A request whose dedupe key had come before. Of one with the event's own bytes only this is kept. */
export interface DuplicateSummary {
  id: DuplicateId
  eventId: EventId
  receivedAt: Date
  /** Whether its bytes differ from the event's; then it was kept whole and can be promoted. */
  differs: boolean
  type: string | null
  bodyBytes: number | null
  promotedAs: EventId | null
}

export interface DuplicateDetail extends DuplicateSummary {
  method: string | null
  path: string | null
  query: string | null
  headers: HeaderPairs | null
  body: Buffer | null
}

interface Row {
  id: DuplicateId
  event_id: EventId
  received_at: Date
  differs: boolean
  type: string | null
  body_bytes: number | null
  promoted_as: EventId | null
}

const columns = 'id, event_id, received_at, differs, type, length(body) AS body_bytes, promoted_as'

/** All kept duplicates of an event, in order of arrival: at most so many of each kind. */
export async function listDuplicates(db: Db, eventId: EventId): Promise<DuplicateSummary[]> {
  const { rows } = await db.query<Row>({
    name: 'duplicates',
    text: `SELECT ${columns} FROM duplicates WHERE event_id = $1 ORDER BY received_at, id LIMIT $2`,
    values: [eventId, 2 * duplicatesPerEventMax],
  })
  return rows.map(toSummary)
}

/** One duplicate with what was received; its body only when it has at most `bodyBytesMax`. */
export async function readDuplicate(db: Db, id: string, bodyBytesMax: number): Promise<DuplicateDetail | undefined> {
  const { rows } = await db.query<
    Row & {
      method: string | null
      path: string | null
      query: string | null
      headers: string | null
      body: Buffer | null
    }
  >({
    name: 'duplicate_read',
    text: `SELECT ${columns}, method, path, query, headers, CASE WHEN length(body) <= $2 THEN body END AS body FROM duplicates WHERE id = $1`,
    values: [id, bodyBytesMax],
  })
  const row = rows[0]
  return (
    row && {
      ...toSummary(row),
      method: row.method,
      path: row.path,
      query: row.query,
      headers: row.headers === null ? null : (JSON.parse(row.headers) as HeaderPairs),
      body: row.body,
    }
  )
}

function toSummary(row: Row): DuplicateSummary {
  return {
    id: row.id,
    eventId: row.event_id,
    receivedAt: row.received_at,
    differs: row.differs,
    type: row.type,
    bodyBytes: row.body_bytes,
    promotedAs: row.promoted_as,
  }
}
