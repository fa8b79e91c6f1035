import type { Db, Store } from './connect.ts'
import { checkEncryptionKeys, type EncryptionKeys } from './secrets.ts'

/** What survives, by Postgres's settings: DESIGN §3, end. */
export interface Durability {
  serverVersion: string
  settings: Record<'fsync' | 'full_page_writes' | 'synchronous_commit' | 'synchronous_standby_names', string>
  /** The worst that an acknowledged event survives. */
  survives: 'process kill' | 'power loss' | 'node loss'
  /** Why it survives no more; empty at `node loss`. */
  reasons: string[]
}

export async function readDurability(db: Db): Promise<Durability> {
  const { rows } = await db.query<Durability['settings'] & { server_version: string }>({
    text: `SELECT current_setting('server_version') AS server_version, current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
      current_setting('synchronous_commit') AS synchronous_commit, current_setting('synchronous_standby_names') AS synchronous_standby_names`,
    values: [],
  })
  const row = rows[0]
  if (!row) throw new Error('Postgres gave no settings')
  const { server_version: serverVersion, ...settings } = row
  const reasons: string[] = []
  if (settings.fsync !== 'on') reasons.push('fsync is off: a power loss can take accepted events')
  if (settings.full_page_writes !== 'on') reasons.push('full_page_writes is off: a power loss can damage pages')
  if (!['on', 'remote_apply', 'remote_write', 'local'].includes(settings.synchronous_commit))
    reasons.push(`synchronous_commit is ${settings.synchronous_commit}: an accepted event may not be on disk yet`)
  if (reasons.length > 0) return { serverVersion, settings, survives: 'process kill', reasons }
  if (settings.synchronous_standby_names === '' || settings.synchronous_commit === 'local') {
    return {
      serverVersion,
      settings,
      survives: 'power loss',
      reasons: ['no synchronous standby: the loss of this machine takes what it held'],
    }
  }
  return { serverVersion, settings, survives: 'node loss', reasons: [] }
}

/**
 * What every service asks before it starts: that the schema is there, that the keys open what is stored, and that
 * Postgres keeps what it acknowledges. Throws a `StoreCheckError` or `SecretError` with one line for the operator.
 */
export async function checkStore(
  store: Store,
  keys: EncryptionKeys,
  allowUnsafePostgres: boolean,
): Promise<Durability> {
  const { rows } = await store.durable.query<{ migrated: boolean }>({
    text: `SELECT to_regclass('config') IS NOT NULL AS migrated`,
  })
  if (!rows[0]?.migrated)
    throw new StoreCheckError('not_migrated', 'the database has no Tenterhook schema: run `tenterhook migrate`')
  const durability = await readDurability(store.durable)
  if (durability.survives === 'process kill' && !allowUnsafePostgres) {
    throw new StoreCheckError(
      'postgres_unsafe',
      `Postgres does not keep what it acknowledges (${durability.reasons.join('; ')}); mend its settings, or set TENTERHOOK_ALLOW_UNSAFE_POSTGRES=true to accept that`,
    )
  }
  await checkEncryptionKeys(store.durable, keys)
  return durability
}

export class StoreCheckError extends Error {
  readonly code: 'not_migrated' | 'postgres_unsafe'
  constructor(code: StoreCheckError['code'], message: string) {
    super(message)
    this.name = 'StoreCheckError'
    this.code = code
  }
}
