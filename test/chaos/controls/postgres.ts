/** What a scenario does to Postgres so that a moment which is usually too short to hit lasts as long as it needs. */
import type { Store } from '@tenterhook/store/connect'
import pg from 'pg'
import { until } from '../../support/poll.ts'

export type Hold = AsyncDisposable & { letGo(): Promise<void> }

/** Nobody can write to the table until this lets go. */
export const holdTable = (connectionString: string, table: string): Promise<Hold> =>
  hold(connectionString, `LOCK TABLE ${table} IN EXCLUSIVE MODE`)

/** Nobody can change the delivery until this lets go. */
export const holdDelivery = (connectionString: string, id: string): Promise<Hold> =>
  hold(connectionString, `SELECT 1 FROM deliveries WHERE id = '${id}' FOR UPDATE`)

/** Whoever asks for this advisory lock, shared, waits until this lets go. */
export const holdAdvisory = (connectionString: string, key: number): Promise<Hold> =>
  hold(connectionString, `SELECT pg_advisory_xact_lock(${key})`)

async function hold(connectionString: string, sql: string): Promise<Hold> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  await client.query('BEGIN')
  await client.query(sql)
  let ended: Promise<void> | undefined
  const letGo = () => (ended ??= client.end())
  return { letGo, [Symbol.asyncDispose]: letGo }
}

/** How many sessions of this application wait for a lock. */
export async function lockedSessions({ durable }: Store, application: string): Promise<number> {
  const { rows } = await durable.query<{ waiting: number }>(
    `SELECT count(*)::int AS waiting FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = $1 AND wait_event_type = 'Lock'`,
    [application],
  )
  return rows[0]?.waiting ?? 0
}

export async function untilLocked(store: Store, application: string, sessions = 1): Promise<void> {
  await until(async () => (await lockedSessions(store, application)) === sessions, {
    what: `${sessions} sessions of ${application} to wait for a lock`,
    timeoutMs: 20_000,
  })
}

/** Ends what this application has under way in Postgres: its transactions are rolled back. */
export async function breakSessions({ durable }: Store, application: string): Promise<void> {
  await until(
    async () => {
      const { rowCount } = await durable.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = $1 AND wait_event_type = 'Lock'`,
        [application],
      )
      return rowCount === 0
    },
    { what: `the sessions of ${application} to end` },
  )
}

/**
 * From here on no asynchronous commit reaches the disk unless a synchronous one takes it along. `crash`: Postgres loses
 * all of them, as when it is killed, and comes back by itself.
 */
export async function holdAsynchronousCommits({
  durable,
}: Store): Promise<AsyncDisposable & { crash(): Promise<void> }> {
  const walWriter = async () => {
    const { rows } = await durable.query<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'`,
    )
    return rows[0]?.pid
  }
  const pid = await until(walWriter, { what: 'the WAL writer to run' })
  process.kill(pid, 'SIGSTOP')
  let crashed = false
  return {
    async crash() {
      crashed = true
      process.kill(pid, 'SIGKILL')
      await until(async () => ![undefined, pid].includes(await walWriter()), {
        what: 'Postgres to be back',
        timeoutMs: 20_000,
      })
    },
    async [Symbol.asyncDispose]() {
      // A scenario that failed before: Postgres could not be stopped.
      if (!crashed) process.kill(pid, 'SIGCONT')
    },
  }
}
