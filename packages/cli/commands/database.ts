import { parseEnvironment } from '@tenterhook/lifecycle/environment'
import { databaseUrl, encryptionKeys } from '@tenterhook/lifecycle/variables'
import { openStore, type Store } from '@tenterhook/store/connect'
import { checkStore, StoreCheckError } from '@tenterhook/store/durability'
import { StoreFault } from '@tenterhook/store/faults'
import { MigrationError } from '@tenterhook/store/migrate'
import { SecretError, type EncryptionKeys } from '@tenterhook/store/secrets'
import { readEncryptionKeys, readState } from '../local/home.ts'
import { CommandError } from './command-error.ts'
import type { Surroundings } from './surroundings.ts'

export interface ReachedStore {
  store: Store
  keys: EncryptionKeys
}

/** Commands ask one question after the other. */
const connectionsMax = { durable: 2, fast: 1, guarded: 1 }

/** Runs `work` on the database of the running copy, or of DATABASE_URL. What Postgres refuses becomes one line. */
export async function withStore<T>(
  surroundings: Pick<Surroundings, 'env' | 'home' | 'program'>,
  work: (reached: ReachedStore) => Promise<T>,
): Promise<T> {
  const url = await findDatabaseUrl(surroundings)
  const keys = await findEncryptionKeys(surroundings)
  const store = openStore({ connectionString: url, applicationName: 'tenterhook-cli', connectionsMax })
  try {
    // What it survives is doctor's to say; here it is asked for the schema and the keys.
    await checkStore(store, keys, true).catch((error: unknown) => {
      if (!(error instanceof StoreCheckError) || error.code !== 'not_migrated') throw error
      const todo = `run \`${surroundings.program} migrate\``
      throw new CommandError('database_unusable', `the database has no Tenterhook schema: ${todo}`, { cause: error })
    })
    return await work({ store, keys })
  } catch (error) {
    throw explainDatabaseError(error, url)
  } finally {
    await store.close()
  }
}

export async function findDatabaseUrl({
  env,
  home,
  program,
}: Pick<Surroundings, 'env' | 'home' | 'program'>): Promise<string> {
  if (env['DATABASE_URL']) return readVariable({ DATABASE_URL: databaseUrl }, env).DATABASE_URL
  const state = await readState(home)
  if (state) return state.databaseUrl
  throw new CommandError('not_running', `nothing runs in ${home}: start it with \`${program} up\`, or set DATABASE_URL`)
}

/** Those of the environment, else those that `up` made: never new ones, which could open nothing. */
export async function findEncryptionKeys({ env, home }: Pick<Surroundings, 'env' | 'home'>): Promise<EncryptionKeys> {
  const text = env['TENTERHOOK_ENCRYPTION_KEYS'] || (await readEncryptionKeys(home))
  if (text === undefined) {
    throw new CommandError(
      'keys_unknown',
      `TENTERHOOK_ENCRYPTION_KEYS is not set, and ${home} holds no encryption-keys`,
    )
  }
  return readVariable({ TENTERHOOK_ENCRYPTION_KEYS: encryptionKeys }, { TENTERHOOK_ENCRYPTION_KEYS: text })
    .TENTERHOOK_ENCRYPTION_KEYS
}

/** `parseEnvironment` for one variable, its problem thrown. */
export function readVariable<Shape extends Parameters<typeof parseEnvironment>[0]>(
  shape: Shape,
  env: Surroundings['env'],
): Extract<ReturnType<typeof parseEnvironment<Shape>>, { kind: 'valid' }>['values'] {
  const parsed = parseEnvironment(shape, env)
  if (parsed.kind === 'invalid') throw new CommandError('bad_argument', parsed.problems.join('; '))
  return parsed.values
}

/** One line for what a person can mend; anything else, a mistake of ours in some statement too, as it is. */
export function explainDatabaseError(error: unknown, url: string): unknown {
  if (error instanceof AggregateError) return explainDatabaseError(error.errors[0], url)
  if (!(error instanceof Error)) return error
  if (error instanceof MigrationError && error.code === 'migration_changed')
    return new CommandError(
      'database_unusable',
      `${error.message}: use another database, or remove .tenterhook/postgres, which loses its data`,
      { cause: error },
    )
  if (
    error instanceof StoreFault ||
    error instanceof StoreCheckError ||
    error instanceof SecretError ||
    error instanceof MigrationError
  )
    return new CommandError('database_unusable', error.message, { cause: error })
  const where = new URL(url).host
  const code = 'code' in error && typeof error.code === 'string' ? error.code : ''
  if (/^(E[A-Z]+|CERT_.*|.*_CERT.*)$/.test(code) || /^(Connection terminated|timeout exceeded)/.test(error.message))
    return new CommandError('database_unusable', `Postgres at ${where} can't be reached: ${error.message}`, {
      cause: error,
    })
  // SQLSTATE classes of a server that can't serve, or doesn't let us in; 3D: there is no such database.
  if (/^(08|25|28|3D|40|42501|53|55|57|58)/.test(code) && 'severity' in error)
    return new CommandError('database_unusable', `Postgres at ${where}: ${error.message}`, { cause: error })
  return error
}
