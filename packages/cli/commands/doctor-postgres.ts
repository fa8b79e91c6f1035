import { readClock } from '@tenterhook/store/clock'
import { openStore, type Store } from '@tenterhook/store/connect'
import { readDurability, type Durability } from '@tenterhook/store/durability'
import { countSecretsByKey } from '@tenterhook/store/re-encrypt'
import { countDaysAhead, readSchemaState, type SchemaState } from '@tenterhook/store/schema-state'
import { checkEncryptionKeys, SecretError } from '@tenterhook/store/secrets'
import { CommandError } from './command-error.ts'
import { explainDatabaseError, findEncryptionKeys } from './database.ts'
import { fail, ok, warn, type Check } from './doctor-check.ts'
import type { Surroundings } from './surroundings.ts'

/** DESIGN §3.11: above this the services write an alert. */
const skewMsMax = 2_000
/** The router makes three days ahead of today: with fewer, none has run for a while. */
const daysAheadMin = 2
const daysLookedAt = 8

/** Postgres as the services find it: its settings, its schema, its clock, and whether the keys open what it holds. */
export async function checkPostgres(
  url: string,
  surroundings: Pick<Surroundings, 'env' | 'home' | 'program' | 'nowMs' | 'monotonicMs'>,
): Promise<Check[]> {
  const store = openStore({ connectionString: url, applicationName: 'tenterhook-doctor' })
  try {
    const durability = await readDurability(store.durable)
    const schema = await readSchemaState(store.durable)
    return [
      ok('postgres', `PostgreSQL ${durability.serverVersion} at ${new URL(url).host}`),
      checkDurability(durability, surroundings.env['TENTERHOOK_ALLOW_UNSAFE_POSTGRES']),
      checkSchema(schema, surroundings),
      ...(schema.kind === 'current' ? await checkContent(store, surroundings) : []),
    ]
  } catch (error) {
    const explained = explainDatabaseError(error, url)
    if (!(explained instanceof CommandError)) throw error
    const todo = 'start it, or mend DATABASE_URL; until then senders get 503 and nothing is delivered'
    return [fail('postgres', explained.message, todo)]
  } finally {
    await store.close()
  }
}

/** What an accepted event survives, by the settings that ingest's own connections have. */
export function checkDurability({ survives, reasons, settings }: Durability, allowed: string | undefined): Check {
  const name = 'durability'
  switch (survives) {
    case 'node loss':
      return ok(
        name,
        `an accepted event survives the kill of any process, power loss, and the loss of this machine: it is on the standby ${settings.synchronous_standby_names} too`,
      )
    case 'power loss':
      return ok(
        name,
        `an accepted event survives the kill of any process, and power loss as far as the disk keeps what it says it has written; not the loss of this machine (${settings.synchronous_standby_names === '' ? 'there is no synchronous standby' : `synchronous_commit is ${settings.synchronous_commit}`})`,
      )
    case 'process kill': {
      const says = `an accepted event survives the kill of any process; a power loss or a crash of this machine can take it (${reasons.join('; ')})`
      const todo = 'set fsync, full_page_writes and synchronous_commit to on'
      return allowed
        ? warn(name, `${says}; TENTERHOOK_ALLOW_UNSAFE_POSTGRES accepts that`, todo)
        : fail(name, says, todo)
    }
  }
}

function checkSchema(schema: SchemaState, { program }: Pick<Surroundings, 'program'>): Check {
  switch (schema.kind) {
    case 'current':
      return ok('schema', 'all migrations have run')
    case 'absent':
      return fail('schema', 'this database has no Tenterhook schema', `${program} migrate`)
    case 'behind':
      return fail(
        'schema',
        `not all migrations have run: ${schema.missing.join(', ')} are missing`,
        `${program} migrate`,
      )
    case 'ahead':
      return fail(
        'schema',
        `the database has migrations that this version doesn't know: ${schema.unknown.join(', ')}`,
        'run the version of Tenterhook that this database was last used with, or a newer one',
      )
  }
}

async function checkContent(
  store: Store,
  surroundings: Pick<Surroundings, 'env' | 'home' | 'program' | 'nowMs' | 'monotonicMs'>,
): Promise<Check[]> {
  return [
    await checkClock(store, surroundings),
    checkDays(await countDaysAhead(store.durable, surroundings.nowMs(), daysLookedAt)),
    await checkKeys(store, surroundings),
  ]
}

async function checkClock(
  store: Store,
  { nowMs, monotonicMs }: Pick<Surroundings, 'nowMs' | 'monotonicMs'>,
): Promise<Check> {
  const begun = { nowMs: nowMs(), monotonicMs: monotonicMs() }
  const postgresMs = await readClock(store.durable)
  // Read in the middle of the round trip, as well as anybody knows.
  const offsetMs = Math.round(postgresMs - begun.nowMs - (monotonicMs() - begun.monotonicMs) / 2)
  const says = `this machine's clock is ${Math.abs(offsetMs)} ms ${offsetMs < 0 ? 'ahead of' : 'behind'} Postgres's`
  if (Math.abs(offsetMs) <= skewMsMax) return ok('clock', says)
  return warn(
    'clock',
    `${says}; the services correct theirs by the difference`,
    'let both machines keep their time by NTP',
  )
}

function checkDays(days: number): Check {
  if (days > daysAheadMin) return ok('partitions', `made up to ${days - 1} days ahead`)
  const says = days === 0 ? "today's partitions are missing" : `made only up to ${days - 1} days ahead`
  return warn(
    'partitions',
    `${says}; rows of a day without go to the default partition, slower to drop`,
    'see that a router runs: it makes them',
  )
}

async function checkKeys(store: Store, surroundings: Pick<Surroundings, 'env' | 'home' | 'program'>): Promise<Check> {
  const name = 'keys'
  try {
    const keys = await findEncryptionKeys(surroundings)
    await checkEncryptionKeys(store.durable, keys)
    const first = keys[0]?.id ?? ''
    const sealed = await countSecretsByKey(store.durable)
    const others = [...sealed].filter(([id]) => id !== first)
    if (others.length === 0) return ok(name, `${sealed.get(first) ?? 0} stored secrets, all sealed with ${first}`)
    const old = others.map(([id, count]) => `${count} with ${id}`).join(', ')
    return warn(name, `stored secrets are sealed with older keys: ${old}`, `${surroundings.program} keys re-encrypt`)
  } catch (error) {
    if (!(error instanceof SecretError) && !(error instanceof CommandError)) throw error
    return fail(name, error.message, 'give the keys that this database was used with: no service starts without')
  }
}
