import type { RejectionId, SourceId } from '@tenterhook/schemas/ids'
import type { Db } from './connect.ts'
import { readPage, when, type Page, type PageRequest } from './page.ts'

/** A request that was not accepted, and why. */
export interface Rejection {
  id: RejectionId
  at: Date
  /** As the sender wrote it; no source need have this name. */
  sourceName: string
  sourceId: SourceId | null
  code: string
  status: number
  detail: string
  method: string
  path: string
  remoteAddress: string | null
  bodyBytes: number
  /** Further requests of the same source and code that this one stands for. */
  folded: number
}

interface Row {
  id: RejectionId
  at: Date
  source_name: string
  source_id: SourceId | null
  code: string
  status: number
  detail: string
  method: string
  path: string
  remote_address: string | null
  body_bytes: number
  folded: number
}

export interface RejectionFilter {
  ids?: readonly string[] | undefined
  /** A source's id, or the name that the sender wrote. */
  source?: string | undefined
  code?: string | undefined
}

/** Rejections, newest first. */
export async function listRejections(db: Db, filter: RejectionFilter, page: PageRequest): Promise<Page<Rejection>> {
  const { rows, next } = await readPage<Row>(db, page, {
    prefix: 'rej',
    table: 'rejections',
    columns: '*',
    narrow: when(filter.ids, 'id = ANY(?::text[])'),
    conditions: [...when(filter.source, '? IN (source_id, source_name)'), ...when(filter.code, 'code = ?')],
    show: 'hit.*',
  })
  return { rows: rows.map(toRejection), next }
}

function toRejection(row: Row): Rejection {
  return {
    id: row.id,
    at: row.at,
    sourceName: row.source_name,
    sourceId: row.source_id,
    code: row.code,
    status: row.status,
    detail: row.detail,
    method: row.method,
    path: row.path,
    remoteAddress: row.remote_address,
    bodyBytes: row.body_bytes,
    folded: row.folded,
  }
}
