import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import pg from 'pg'

/** Any fixed number: the lock that lets one process migrate while others wait. */
const migrationLock = 7_316_041_552
const directory = new URL('./migrations/', import.meta.url)

export interface MigrateOptions {
  connectionString: string
  /** Created when absent; tables go there. Default: the connection's own search path. */
  schema?: string
}

/**
 * Runs the numbered files of `migrations/` that this database has not seen, each in a transaction of its own,
 * under a lock. Returns the names of those it ran. A file that changed after it ran, or a database that is
 * ahead of this code, is refused with a `MigrationError`.
 */
export async function migrate({ connectionString, schema }: MigrateOptions): Promise<string[]> {
  const client = new pg.Client({
    connectionString,
    application_name: 'tenterhook-migrate',
    connectionTimeoutMillis: 10_000,
  })
  await client.connect()
  try {
    await client.query('SELECT pg_advisory_lock($1)', [migrationLock])
    if (schema) {
      await client.query(`CREATE SCHEMA IF NOT EXISTS ${pg.escapeIdentifier(schema)}`)
      await client.query(`SET search_path = ${pg.escapeIdentifier(schema)}`)
    }
    await client.query(
      `CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`,
    )
    const seen = new Map(
      (await client.query<{ name: string; checksum: string }>('SELECT name, checksum FROM migrations')).rows.map(
        (row) => [row.name, row.checksum],
      ),
    )
    const files = (await readdir(directory)).filter((file) => /^\d{4}_.*\.sql$/.test(file)).sort()
    for (const name of seen.keys()) {
      if (!files.includes(name))
        throw new MigrationError(
          'schema_ahead',
          `the database has migration ${name}, which this version doesn't know: it was used by a newer Tenterhook`,
        )
    }
    const ran: string[] = []
    for (const file of files) {
      const sql = await readFile(new URL(file, directory), 'utf8')
      const checksum = createHash('sha256').update(sql).digest('hex')
      const before = seen.get(file)
      if (before === checksum) continue
      if (before !== undefined)
        throw new MigrationError('migration_changed', `migration ${file} was changed after it ran on this database`)
      await client.query('BEGIN')
      try {
        await client.query(sql)
        await client.query('INSERT INTO migrations (name, checksum) VALUES ($1, $2)', [file, checksum])
        await client.query('COMMIT')
      } catch (error) {
        await client.query('ROLLBACK')
        throw error
      }
      ran.push(file)
    }
    return ran
  } finally {
    await client.end()
  }
}

export class MigrationError extends Error {
  readonly code: 'schema_ahead' | 'migration_changed'
  constructor(code: 'schema_ahead' | 'migration_changed', message: string) {
    super(message)
    this.name = 'MigrationError'
    this.code = code
  }
}
