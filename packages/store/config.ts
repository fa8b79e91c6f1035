import { connectionSpec, type ConnectionSpec } from '@tenterhook/schemas/connection'
import { destinationSpec, joinDestinationSecrets, type DestinationSpec } from '@tenterhook/schemas/destination'
import type { ConnectionId, DestinationId, SourceId } from '@tenterhook/schemas/ids'
import { joinSourceSecrets, sourceSpec, type SourceSpec } from '@tenterhook/schemas/source'
import type { Db } from './connect.ts'
import { openSecret, type EncryptionKeys } from './secrets.ts'

export interface Source {
  id: SourceId
  version: number
  managedBy: string
  spec: SourceSpec
}
export interface Destination {
  id: DestinationId
  version: number
  managedBy: string
  spec: DestinationSpec
}
export interface Connection {
  id: ConnectionId
  version: number
  managedBy: string
  sourceId: SourceId
  destinationId: DestinationId
  spec: ConnectionSpec
}

/** Everything that decides, as of one version, secrets opened. */
export interface Config {
  version: number
  sources: Source[]
  destinations: Destination[]
  connections: Connection[]
}

interface StoredRow {
  id: string
  version: number
  managed_by: string
  spec: unknown
  secrets?: string | null
  source_id?: string
  destination_id?: string
}

const columns = {
  sources: `id, version, managed_by, spec, secrets`,
  destinations: `id, version, managed_by, spec, secrets`,
  connections: `id, version, managed_by, spec, source_id, destination_id`,
}

export async function readConfigVersion(db: Db): Promise<number> {
  const { rows } = await db.query<{ version: string }>({
    name: 'config_version',
    text: 'SELECT version FROM config',
    values: [],
  })
  return Number(rows[0]?.version)
}

/** The whole living configuration in one snapshot, as of one version. */
export async function readConfig(db: Db, keys: EncryptionKeys): Promise<Config> {
  const all = (table: keyof typeof columns) =>
    `(SELECT coalesce(json_agg(t ORDER BY t.id), '[]') FROM (SELECT ${columns[table]} FROM ${table} WHERE deleted_at IS NULL) t) AS ${table}`
  const { rows } = await db.query<{
    version: string
    sources: StoredRow[]
    destinations: StoredRow[]
    connections: StoredRow[]
  }>({
    name: 'config',
    text: `SELECT (SELECT version FROM config) AS version, ${all('sources')}, ${all('destinations')}, ${all('connections')}`,
    values: [],
  })
  const row = rows[0]
  if (!row) throw new Error('the configuration has no row')
  return {
    version: Number(row.version),
    sources: row.sources.map((stored) => toSource(stored, keys)),
    destinations: row.destinations.map((stored) => toDestination(stored, keys)),
    connections: row.connections.map(toConnection),
  }
}

/** What routing reads, as of one version: no secret is opened, so that none it doesn't need can stop it. */
export async function readRoutingConfig(
  db: Db,
): Promise<{ version: number; connections: Connection[]; sourceNames: Map<SourceId, string> }> {
  const { rows } = await db.query<{
    version: string
    sources: { id: SourceId; name: string }[]
    connections: StoredRow[]
  }>({
    name: 'routing_config',
    text: `SELECT (SELECT version FROM config) AS version,
      (SELECT coalesce(json_agg(json_build_object('id', id, 'name', name)), '[]') FROM sources WHERE deleted_at IS NULL) AS sources,
      (SELECT coalesce(json_agg(t ORDER BY t.id), '[]') FROM (SELECT ${columns.connections} FROM connections WHERE deleted_at IS NULL) t) AS connections`,
    values: [],
  })
  const row = rows[0]
  if (!row) throw new Error('the configuration has no row')
  return {
    version: Number(row.version),
    connections: row.connections.map(toConnection),
    sourceNames: new Map(row.sources.map(({ id, name }) => [id, name])),
  }
}

/** What ingest reads, as of one version. */
export async function readSourcesConfig(db: Db, keys: EncryptionKeys): Promise<{ version: number; sources: Source[] }> {
  const { rows } = await db.query<{ version: string; sources: StoredRow[] }>({
    name: 'sources_config',
    text: `SELECT (SELECT version FROM config) AS version,
      (SELECT coalesce(json_agg(t ORDER BY t.id), '[]') FROM (SELECT ${columns.sources} FROM sources WHERE deleted_at IS NULL) t) AS sources`,
    values: [],
  })
  const row = rows[0]
  if (!row) throw new Error('the configuration has no row')
  return { version: Number(row.version), sources: row.sources.map((stored) => toSource(stored, keys)) }
}

/** Destinations as they stand now, deleted ones too: what is under way still needs them. */
export async function readDestinations(
  db: Db,
  ids: readonly DestinationId[],
  keys: EncryptionKeys,
): Promise<Destination[]> {
  const { rows } = await db.query<StoredRow>({
    name: 'destinations',
    text: `SELECT ${columns.destinations} FROM destinations WHERE id = ANY($1::text[])`,
    values: [ids],
  })
  return rows.map((row) => toDestination(row, keys))
}

/** Connections as they stand now, deleted ones too. */
export async function readConnections(db: Db, ids: readonly ConnectionId[]): Promise<Connection[]> {
  const { rows } = await db.query<StoredRow>({
    name: 'connections',
    text: `SELECT ${columns.connections} FROM connections WHERE id = ANY($1::text[])`,
    values: [ids],
  })
  return rows.map(toConnection)
}

/** Sources as they stand now, deleted ones too. */
export async function readSources(db: Db, ids: readonly SourceId[], keys: EncryptionKeys): Promise<Source[]> {
  const { rows } = await db.query<StoredRow>({
    name: 'sources',
    text: `SELECT ${columns.sources} FROM sources WHERE id = ANY($1::text[])`,
    values: [ids],
  })
  return rows.map((row) => toSource(row, keys))
}

function toSource(row: StoredRow, keys: EncryptionKeys): Source {
  return {
    id: row.id as SourceId,
    version: row.version,
    managedBy: row.managed_by,
    spec: sourceSpec.parse(
      joinSourceSecrets(row.spec, row.secrets ? openSecret(keys, row.id, row.secrets) : undefined),
    ),
  }
}

function toDestination(row: StoredRow, keys: EncryptionKeys): Destination {
  return {
    id: row.id as DestinationId,
    version: row.version,
    managedBy: row.managed_by,
    spec: destinationSpec.parse(
      joinDestinationSecrets(row.spec, row.secrets ? openSecret(keys, row.id, row.secrets) : undefined),
    ),
  }
}

function toConnection(row: StoredRow): Connection {
  return {
    id: row.id as ConnectionId,
    version: row.version,
    managedBy: row.managed_by,
    sourceId: row.source_id as SourceId,
    destinationId: row.destination_id as DestinationId,
    spec: connectionSpec.parse(row.spec),
  }
}
