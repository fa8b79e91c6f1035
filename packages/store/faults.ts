import pg from 'pg'
import type { Db } from './connect.ts'

/** Postgres could not be asked, or took too long: nobody's request was wrong, and asking again may help. */
export class StoreFault extends Error {
  readonly code: 'store_unavailable' | 'store_slow'
  readonly stage = 'store'
  constructor(code: StoreFault['code'], message: string, cause: unknown) {
    super(message, { cause })
    this.name = 'StoreFault'
    this.code = code
  }
}

/** SQLSTATE classes of a server that can't serve now: lost connections, deadlocks, no room, being shut down, a failover. */
const unavailableClasses = /^(08|25|40|53|55|57|58)/
const statementTimedOut = '57014'

/** A Db whose infrastructure faults are `StoreFault`s; whatever a statement of ours did wrong stays what it was. */
export function withFaults(db: Db): Db {
  return {
    async query<Row extends pg.QueryResultRow>(query: pg.QueryConfig): Promise<pg.QueryResult<Row>> {
      try {
        return await db.query<Row>(query)
      } catch (error) {
        throw faultOf(error)
      }
    },
  }
}

function faultOf(error: unknown): unknown {
  if (error instanceof pg.DatabaseError) {
    const state = error.code ?? ''
    if (state === statementTimedOut) return new StoreFault('store_slow', 'Postgres took too long', error)
    return unavailableClasses.test(state)
      ? new StoreFault('store_unavailable', 'Postgres can’t serve now', error)
      : error
  }
  // A wrong parameter of ours; all else that isn't the server's word is the connection's.
  if (error instanceof TypeError || error instanceof RangeError) return error
  return new StoreFault('store_unavailable', 'Postgres can’t be reached', error)
}
