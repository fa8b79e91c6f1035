import pg from 'pg'

/** What an operation needs of a connection: a pool or a client inside a transaction. */
export interface Db {
  query<Row extends pg.QueryResultRow>(query: pg.QueryConfig): Promise<pg.QueryResult<Row>>
}

/**
 * Three pools on one database, apart by what they promise:
 * `durable` waits for fsync (ingest's commit and what the API acknowledges), `fast` uses synchronous_commit=off
 * (routing, lease and result transactions: DESIGN §3.1), `guarded` reads for people under statement timeouts,
 * so that no page holds a snapshot that slows the sweep.
 */
export interface Store {
  durable: pg.Pool
  fast: pg.Pool
  guarded: pg.Pool
  close(): Promise<void>
}

export interface StoreOptions {
  connectionString: string
  /** Shown in pg_stat_activity. */
  applicationName: string
  /** Tests keep their tables, and their clock, in a schema of their own. */
  schema?: string
  /** Connections per pool, at most; a pool opens none before it is used. */
  connectionsMax?: { durable?: number; fast?: number; guarded?: number }
  /** Called when an idle connection breaks; the pool replaces it. */
  onConnectionError?: (error: Error) => void
}

const connectTimeoutMs = 2_500
/** Senders hang up after 3 to 10 s: an acceptance that takes longer is answered 503. */
const durableStatementTimeoutMs = 5_000
const fastStatementTimeoutMs = 30_000
const guardedStatementTimeoutMs = 5_000
const idleInTransactionTimeoutMs = 10_000

/**
 * The protocol's statements are lookups by key of a few hundred rows at most, made over and over. They are planned once
 * (planning them anew took a quarter of Postgres's time), and by index: a plan that is made while a day's partition is
 * still empty must be right when it is full. Partitions are not pruned: PostgreSQL 18.4 crashes when it rechecks a row that
 * changed while a statement waited for it, in a plan that prunes as it runs.
 */
const plannedOnce = {
  plan_cache_mode: 'force_generic_plan',
  enable_seqscan: 'off',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  enable_partition_pruning: 'off',
  jit: 'off',
}

export function openStore(options: StoreOptions): Store {
  const pool = (max: number, settings: Record<string, string | number>, replyTimeoutMs?: number) => {
    const all = {
      ...(options.schema ? { search_path: options.schema } : {}),
      idle_in_transaction_session_timeout: idleInTransactionTimeoutMs,
      ...settings,
    }
    const made = new pg.Pool({
      connectionString: options.connectionString,
      application_name: options.applicationName,
      max,
      connectionTimeoutMillis: connectTimeoutMs,
      idleTimeoutMillis: 60_000,
      keepAlive: true,
      // A server that stopped answering, or a cut network: the query fails and its connection is thrown away.
      ...(replyTimeoutMs && { query_timeout: replyTimeoutMs }),
      options: Object.entries(all)
        .map(([name, value]) => `-c ${name}=${value}`)
        .join(' '),
    })
    // Without a listener the loss of an idle connection would end the process.
    made.on('error', (error) => options.onConnectionError?.(error))
    return made
  }
  const max = options.connectionsMax ?? {}
  const pools = {
    durable: pool(
      max.durable ?? 4,
      { ...plannedOnce, synchronous_commit: 'on', statement_timeout: durableStatementTimeoutMs },
      durableStatementTimeoutMs,
    ),
    fast: pool(
      max.fast ?? 6,
      { ...plannedOnce, synchronous_commit: 'off', statement_timeout: fastStatementTimeoutMs },
      fastStatementTimeoutMs,
    ),
    guarded: pool(
      max.guarded ?? 4,
      { statement_timeout: guardedStatementTimeoutMs, default_transaction_read_only: 'on' },
      guardedStatementTimeoutMs,
    ),
  }
  return {
    ...pools,
    async close() {
      await Promise.all([pools.durable.end(), pools.fast.end(), pools.guarded.end()])
    },
  }
}

/** Runs `work` in one transaction on a pool's connection; rolls back when it throws. */
export async function inTransaction<T>(pool: pg.Pool, work: (db: Db) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  let broken: Error | undefined
  // A checked-out client that loses its connection says so by an event too; unheard, it would end the process.
  const onLost = (error: Error) => {
    broken = error
  }
  client.on('error', onLost)
  try {
    await client.query('BEGIN')
    const result = await work(client)
    await client.query('COMMIT')
    return result
  } catch (error) {
    await client.query('ROLLBACK').catch((rollbackError: Error) => {
      broken = rollbackError
    })
    throw error
  } finally {
    client.off('error', onLost)
    client.release(broken)
  }
}
