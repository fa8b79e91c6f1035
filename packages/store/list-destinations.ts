import type { DestinationId } from '@tenterhook/schemas/ids'
import type { Db } from './connect.ts'
import { byNameOrId, type ConfigFilter } from './config-filter.ts'
import { readPage, type Page, type PageRequest } from './page.ts'
import { secretNames } from './secret-names.ts'
import { openSecret, type EncryptionKeys } from './secrets.ts'

/** A destination as it may be shown, with the state that the protocol reads. */
export interface DestinationView {
  id: DestinationId
  name: string
  version: number
  managedBy: string
  /** Without its secrets. */
  spec: unknown
  /** Which secrets are set. */
  secretsSet: string[]
  paused: boolean
  pauseReason: string | null
  /** Set while it is kept from new attempts (429, 503, Retry-After). */
  closedUntil: Date | null
  /** Deliveries admitted at once, at most. */
  window: number
  createdAt: Date
  updatedAt: Date
  deletedAt: Date | null
}

interface Row {
  id: DestinationId
  name: string
  version: number
  managed_by: string
  spec: unknown
  secrets: string | null
  paused: boolean
  pause_reason: string | null
  closed_until: Date | null
  win: number
  created_at: Date
  updated_at: Date
  deleted_at: Date | null
}

/** Destinations, newest first; deleted ones only by id. */
export async function listDestinations(
  db: Db,
  filter: ConfigFilter,
  page: PageRequest,
  keys: EncryptionKeys,
): Promise<Page<DestinationView>> {
  const { rows, next } = await readPage<Row>(db, page, {
    prefix: 'dst',
    table: 'destinations',
    columns: `id, name, version, managed_by, spec, secrets, paused, pause_reason, win, created_at, updated_at, deleted_at,
      CASE WHEN closed_until > clock() THEN closed_until END AS closed_until`,
    narrow: byNameOrId(filter),
    show: 'hit.*',
  })
  return { rows: rows.map((row) => toView(row, keys)), next }
}

function toView(row: Row, keys: EncryptionKeys): DestinationView {
  return {
    id: row.id,
    name: row.name,
    version: row.version,
    managedBy: row.managed_by,
    spec: row.spec,
    secretsSet: row.secrets === null ? [] : secretNames(openSecret(keys, row.id, row.secrets)),
    paused: row.paused,
    pauseReason: row.pause_reason,
    closedUntil: row.closed_until,
    window: row.win,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    deletedAt: row.deleted_at,
  }
}
