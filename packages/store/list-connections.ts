import type { ConnectionId, DestinationId, SourceId } from '@tenterhook/schemas/ids'
import type { Db } from './connect.ts'
import { byNameOrId, type ConfigFilter } from './config-filter.ts'
import { readPage, type Page, type PageRequest } from './page.ts'

export interface ConnectionView {
  id: ConnectionId
  name: string
  version: number
  managedBy: string
  source: { id: SourceId; name: string | null }
  destination: { id: DestinationId; name: string | null }
  spec: unknown
  paused: boolean
  pauseReason: string | null
  createdAt: Date
  updatedAt: Date
  deletedAt: Date | null
}

interface Row {
  id: ConnectionId
  name: string
  version: number
  managed_by: string
  source_id: SourceId
  source_name: string | null
  destination_id: DestinationId
  destination_name: string | null
  spec: unknown
  paused: boolean
  pause_reason: string | null
  created_at: Date
  updated_at: Date
  deleted_at: Date | null
}

/** Connections, newest first; deleted ones only by id. */
export async function listConnections(db: Db, filter: ConfigFilter, page: PageRequest): Promise<Page<ConnectionView>> {
  const { rows, next } = await readPage<Row>(db, page, {
    prefix: 'con',
    table: 'connections',
    columns:
      'id, name, version, managed_by, source_id, destination_id, spec, paused, pause_reason, created_at, updated_at, deleted_at',
    narrow: byNameOrId(filter),
    show: 'hit.*, s.name AS source_name, t.name AS destination_name',
    joins: 'LEFT JOIN sources s ON s.id = hit.source_id LEFT JOIN destinations t ON t.id = hit.destination_id',
  })
  return { rows: rows.map(toView), next }
}

function toView(row: Row): ConnectionView {
  return {
    id: row.id,
    name: row.name,
    version: row.version,
    managedBy: row.managed_by,
    source: { id: row.source_id, name: row.source_name },
    destination: { id: row.destination_id, name: row.destination_name },
    spec: row.spec,
    paused: row.paused,
    pauseReason: row.pause_reason,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    deletedAt: row.deleted_at,
  }
}
