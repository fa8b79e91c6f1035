import type { Db } from './connect.ts'

/** Postgres's time in Unix milliseconds, through the one function that tests can shift (DESIGN §3.11). */
export async function readClock(db: Db): Promise<number> {
  const { rows } = await db.query<{ ms: number }>({
    name: 'clock',
    text: 'SELECT (extract(epoch FROM clock()) * 1000)::float8 AS ms',
    values: [],
  })
  const ms = rows[0]?.ms
  if (ms === undefined) throw new Error('Postgres gave no time')
  return ms
}
