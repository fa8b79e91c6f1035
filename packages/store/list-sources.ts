import type { SourceId } from '@tenterhook/schemas/ids'
import type { Db } from './connect.ts'
import { readPage, type Page, type PageRequest } from './page.ts'
import { byNameOrId, type ConfigFilter } from './config-filter.ts'
import { secretNames } from './secret-names.ts'
import { openSecret, type EncryptionKeys } from './secrets.ts'

/** A source as it may be shown. */
export interface SourceView {
  id: SourceId
  name: string
  version: number
  managedBy: string
  /** Without its secrets. */
  spec: unknown
  /** Which secrets are set. */
  secretsSet: string[]
  createdAt: Date
  updatedAt: Date
  deletedAt: Date | null
}

interface Row {
  id: SourceId
  name: string
  version: number
  managed_by: string
  spec: unknown
  secrets: string | null
  created_at: Date
  updated_at: Date
  deleted_at: Date | null
}

/** Sources, newest first; deleted ones only by id. */
export async function listSources(
  db: Db,
  filter: ConfigFilter,
  page: PageRequest,
  keys: EncryptionKeys,
): Promise<Page<SourceView>> {
  const { rows, next } = await readPage<Row>(db, page, {
    prefix: 'src',
    table: 'sources',
    columns: 'id, name, version, managed_by, spec, secrets, created_at, updated_at, deleted_at',
    narrow: byNameOrId(filter),
    show: 'hit.*',
  })
  return { rows: rows.map((row) => toView(row, keys)), next }
}

function toView(row: Row, keys: EncryptionKeys): SourceView {
  return {
    id: row.id,
    name: row.name,
    version: row.version,
    managedBy: row.managed_by,
    spec: row.spec,
    secretsSet: row.secrets === null ? [] : secretNames(openSecret(keys, row.id, row.secrets)),
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    deletedAt: row.deleted_at,
  }
}
