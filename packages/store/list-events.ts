import type { EventId, SourceId } from '@tenterhook/schemas/ids'
import type { EventState } from '@tenterhook/schemas/states'
import type { Db } from './connect.ts'
import { readPage, when, type Page, type PageRequest } from './page.ts'

/** An event without what was received: its content is in `readEventContent`. */
export interface EventSummary {
  id: EventId
  seq: number
  source: { id: SourceId; name: string | null }
  sourceVersion: number
  type: string | null
  state: EventState
  bodyBytes: number
  receivedAt: Date
  routedAt: Date | null
  /** When the sweep takes it over; null once it was routed. */
  dueAt: Date | null
  routeTries: number
  /** The configuration that routed it. */
  configVersion: number | null
}

export interface EventFilter {
  ids?: readonly string[] | undefined
  sourceIds?: readonly string[] | undefined
  type?: string | undefined
  state?: EventState | undefined
}

interface Row {
  id: EventId
  seq: string
  source_id: SourceId
  source_name: string | null
  source_version: number
  type: string | null
  state: EventState
  body_bytes: number
  received_at: Date
  routed_at: Date | null
  due_at: Date | null
  route_tries: number
  config_version: string | null
}

/** Events, newest first. `sinceMs` and `untilMs` of the page are times of acceptance. */
export async function listEvents(db: Db, filter: EventFilter, page: PageRequest): Promise<Page<EventSummary>> {
  const { rows, next } = await readPage<Row>(db, page, {
    prefix: 'evt',
    table: 'events',
    columns: `id, seq, source_id, source_version, type, state, body_bytes, received_at, routed_at, due_at, route_tries, config_version`,
    narrow: when(filter.ids, 'id = ANY(?::text[])'),
    conditions: [
      ...when(filter.sourceIds, 'source_id = ANY(?::text[])'),
      ...when(filter.type, 'type = ?'),
      ...when(filter.state, 'state = ?'),
    ],
    show: 'hit.*, s.name AS source_name',
    joins: 'LEFT JOIN sources s ON s.id = hit.source_id',
  })
  return { rows: rows.map(toSummary), next }
}

function toSummary(row: Row): EventSummary {
  return {
    id: row.id,
    seq: Number(row.seq),
    source: { id: row.source_id, name: row.source_name },
    sourceVersion: row.source_version,
    type: row.type,
    state: row.state,
    bodyBytes: row.body_bytes,
    receivedAt: row.received_at,
    routedAt: row.routed_at,
    dueAt: row.due_at,
    routeTries: row.route_tries,
    configVersion: row.config_version === null ? null : Number(row.config_version),
  }
}
