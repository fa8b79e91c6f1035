import type { DuplicateId, EventId } from '@tenterhook/schemas/ids'
import type { Db } from './connect.ts'

export type Promoted =
  | { kind: 'promoted'; eventId: EventId }
  /** Once is enough: the event it became before. */
  | { kind: 'already'; eventId: EventId }
  /** Its bytes are the event's own: they were not kept twice. */
  | { kind: 'equal' }
  | { kind: 'unknown' }

/**
 * Makes a duplicate whose bytes differ an event of its own, durably and once: accepted, unrouted, and without a dedupe
 * key, since its key is the first one's.
 */
export async function promoteDuplicate(
  durable: Db,
  id: DuplicateId,
  eventId: EventId,
  routeWaitMs: number,
): Promise<Promoted> {
  const { rows } = await durable.query<{ differs: boolean; promoted_as: EventId | null }>({
    name: 'promote',
    text: `WITH wanted AS MATERIALIZED (SELECT * FROM duplicates WHERE id = $1 FOR UPDATE),
      fresh AS MATERIALIZED (
        SELECT w.*, s.version AS source_version FROM wanted w JOIN sources s ON s.id = w.source_id
        WHERE w.differs AND w.promoted_as IS NULL),
      event AS (
        INSERT INTO events (id, source_id, source_version, state, due_at, type, body_bytes, received_at)
        SELECT $2, f.source_id, f.source_version, 'accepted', clock() + $3 * interval '1 millisecond', f.type, length(f.body), f.received_at FROM fresh f),
      content AS (
        INSERT INTO event_content (event_id, method, path, query, headers, body, traceparent)
        SELECT $2, f.method, f.path, f.query, f.headers, f.body, f.traceparent FROM fresh f),
      marked AS (UPDATE duplicates d SET promoted_as = $2 FROM fresh f WHERE d.id = f.id)
      SELECT w.differs, w.promoted_as FROM wanted w`,
    values: [id, eventId, routeWaitMs],
  })
  const row = rows[0]
  if (!row) return { kind: 'unknown' }
  if (!row.differs) return { kind: 'equal' }
  return row.promoted_as === null ? { kind: 'promoted', eventId } : { kind: 'already', eventId: row.promoted_as }
}
