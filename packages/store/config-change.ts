import type pg from 'pg'
import type { ConnectionSpec } from '@tenterhook/schemas/connection'
import { splitDestinationSecrets, type DestinationSpec } from '@tenterhook/schemas/destination'
import { durationMs } from '@tenterhook/schemas/duration'
import type { ConnectionId, DestinationId, SourceId } from '@tenterhook/schemas/ids'
import { splitSourceSecrets, type SourceSpec } from '@tenterhook/schemas/source'
import { inTransaction, type Db } from './connect.ts'
import { sealSecret, type EncryptionKeys } from './secrets.ts'

/**
 * One change of the configuration, of any number of rows: takes the version's row first, so changes are serial, and
 * commits durably. `work` may throw to leave everything as it was.
 */
export async function changeConfig<T>(
  durable: pg.Pool,
  work: (change: ConfigChange) => Promise<T>,
): Promise<{ version: number; result: T }> {
  return inTransaction(durable, async (db) => {
    const { rows } = await db.query<{ version: string }>({
      text: 'UPDATE config SET version = version + 1 RETURNING version',
      values: [],
    })
    const version = Number(rows[0]?.version)
    return { version, result: await work({ db, version }) }
  })
}

/** Only `changeConfig` makes one, so no row changes without the version. */
export interface ConfigChange {
  readonly db: Db
  readonly version: number
}

interface Put<I, S> {
  id: I
  spec: S
  /** Who made it: `api`, or `file:<name>` for apply, which removes only its own. */
  managedBy: string
}

/** Inserts the source, or replaces it under its id as the next version. */
export async function putSource(
  change: ConfigChange,
  { id, spec, managedBy }: Put<SourceId, SourceSpec>,
  keys: EncryptionKeys,
): Promise<void> {
  const { open, secret } = splitSourceSecrets(spec)
  await change.db.query({
    text: `INSERT INTO sources AS t (id, name, spec, secrets, managed_by) VALUES ($1, $2, $3, $4, $5)
      ON CONFLICT (id) DO UPDATE SET name = excluded.name, spec = excluded.spec, secrets = excluded.secrets, managed_by = excluded.managed_by,
        version = t.version + 1, updated_at = clock()`,
    values: [
      id,
      spec.name,
      JSON.stringify(open),
      secret === undefined ? null : sealSecret(keys, id, secret),
      managedBy,
    ],
  })
  await remember(change, 'source', id)
}

/** Inserts the destination, or replaces it under its id as the next version; its pause, its health and its window stay. */
export async function putDestination(
  change: ConfigChange,
  { id, spec, managedBy }: Put<DestinationId, DestinationSpec>,
  keys: EncryptionKeys,
): Promise<void> {
  const { open, secret } = splitDestinationSecrets(spec)
  const { tenant = '', limits = {} } = spec
  await change.db.query({
    // Beside the spec stands what feeding and leasing read of it.
    text: `INSERT INTO destinations AS t (id, name, spec, secrets, managed_by, attempt_timeout_ms,
        tenant, rate_per_second, rate_per_minute, rate_per_hour, concurrency) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
      ON CONFLICT (id) DO UPDATE SET name = excluded.name, spec = excluded.spec, secrets = excluded.secrets, managed_by = excluded.managed_by,
        attempt_timeout_ms = excluded.attempt_timeout_ms, tenant = excluded.tenant, rate_per_second = excluded.rate_per_second,
        rate_per_minute = excluded.rate_per_minute, rate_per_hour = excluded.rate_per_hour, concurrency = excluded.concurrency,
        version = t.version + 1, updated_at = clock()`,
    values: [
      id,
      spec.name,
      JSON.stringify(open),
      secret === undefined ? null : sealSecret(keys, id, secret),
      managedBy,
      durationMs(spec.timeout),
      tenant,
      limits.perSecond ?? null,
      limits.perMinute ?? null,
      limits.perHour ?? null,
      limits.concurrency ?? null,
    ],
  })
  await remember(change, 'destination', id)
}

/**
 * Inserts the connection, or replaces it under its id as the next version; its pause stays. Its filter and the path of its
 * order were checked by the caller.
 */
export async function putConnection(
  change: ConfigChange,
  {
    id,
    spec,
    managedBy,
    sourceId,
    destinationId,
  }: Put<ConnectionId, ConnectionSpec> & { sourceId: SourceId; destinationId: DestinationId },
): Promise<void> {
  await change.db.query({
    text: `INSERT INTO connections AS t (id, name, spec, managed_by, source_id, destination_id, order_skip) VALUES ($1, $2, $3, $4, $5, $6, $7)
      ON CONFLICT (id) DO UPDATE SET name = excluded.name, spec = excluded.spec, managed_by = excluded.managed_by,
        source_id = excluded.source_id, destination_id = excluded.destination_id, order_skip = excluded.order_skip,
        version = t.version + 1, updated_at = clock()`,
    values: [id, spec.name, JSON.stringify(spec), managedBy, sourceId, destinationId, spec.order?.onFailure === 'skip'],
  })
  await remember(change, 'connection', id)
}

/** Soft deletes: what was decided under it stays readable; deliveries that wait for a deleted destination go dead. */
export async function remove(
  change: ConfigChange,
  kind: 'source' | 'destination' | 'connection',
  id: string,
): Promise<boolean> {
  const { rowCount } = await change.db.query({
    text: `UPDATE ${kind}s SET deleted_at = clock(), version = version + 1 WHERE id = $1 AND deleted_at IS NULL`,
    values: [id],
  })
  if (kind === 'destination' && rowCount) {
    await change.db.query({
      text: `WITH gone AS MATERIALIZED (
          SELECT id FROM deliveries WHERE destination_id = $1 AND due_at IS NOT NULL AND NOT admitted ORDER BY id LIMIT 10000 FOR UPDATE SKIP LOCKED)
        UPDATE deliveries d SET state = 'dead', dead_reason = 'destination_deleted', due_at = NULL, finished_at = clock() FROM gone WHERE d.id = gone.id`,
      values: [id],
    })
  }
  return rowCount === 1
}

/** How many deliveries of a destination or connection have not ended; counting stops at `max`. */
export async function countUnfinished(
  db: Db,
  by: 'destination' | 'connection',
  id: string,
  max = 10_000,
): Promise<number> {
  const { rows } = await db.query<{ n: number }>({
    // In two halves, each with a partial index of its own; a connection's are among its destination's.
    text: `WITH of AS (SELECT ${by === 'destination' ? '$1::text' : '(SELECT destination_id FROM connections WHERE id = $1)'} AS destination)
      SELECT count(*)::int AS n FROM (
        SELECT 1 FROM (
          SELECT d.connection_id, d.destination_id FROM deliveries d, of WHERE d.destination_id = of.destination AND d.due_at IS NOT NULL AND NOT d.admitted
          UNION ALL
          SELECT d.connection_id, d.destination_id FROM deliveries d, of WHERE d.destination_id = of.destination AND d.admitted) t
        WHERE t.${by}_id = $1 LIMIT $2) t`,
    values: [id, max],
  })
  return rows[0]?.n ?? 0
}

async function remember(
  change: ConfigChange,
  kind: 'source' | 'destination' | 'connection',
  id: string,
): Promise<void> {
  await change.db.query({
    text: `INSERT INTO config_history (kind, id, version, config_version, spec) SELECT $1, id, version, $2, spec FROM ${kind}s WHERE id = $3`,
    values: [kind, change.version, id],
  })
}
