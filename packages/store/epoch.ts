import type { Db } from './connect.ts'

/** The Redis that was last seen: its run id, and the random key we left in it. */
export interface RedisEpoch {
  runId: string
  key: string
}

export async function readRedisEpoch(db: Db): Promise<RedisEpoch | undefined> {
  const { rows } = await db.query<{ run_id: string; key: string }>({
    name: 'epoch',
    text: 'SELECT run_id, key FROM redis_epoch',
    values: [],
  })
  return rows[0] && { runId: rows[0].run_id, key: rows[0].key }
}

/**
 * Moves from the epoch that was read to the new one. True for exactly one of the copies that try: the winner writes
 * the key into Redis and re-admits.
 */
export async function winRedisEpoch(db: Db, seen: RedisEpoch | undefined, now: RedisEpoch): Promise<boolean> {
  const { rowCount } = seen
    ? await db.query({
        name: 'epoch_win',
        text: 'UPDATE redis_epoch SET run_id = $1, key = $2, since = clock() WHERE run_id = $3 AND key = $4',
        values: [now.runId, now.key, seen.runId, seen.key],
      })
    : await db.query({
        name: 'epoch_first',
        text: 'INSERT INTO redis_epoch (run_id, key) VALUES ($1, $2) ON CONFLICT DO NOTHING',
        values: [now.runId, now.key],
      })
  return rowCount === 1
}

/**
 * A new Redis has none of our jobs: wakes what waits for one, paced by its place in line (`perSecond`), so that the
 * sweep takes it over without a stampede.
 */
export async function wakeForNewEpoch(db: Db, perSecond: number): Promise<{ events: number; deliveries: number }> {
  const deliveries = await db.query({
    name: 'epoch_deliveries',
    text: `WITH place AS MATERIALIZED (
        SELECT id, row_number() OVER (ORDER BY wake_at, seq) AS n FROM deliveries WHERE admitted AND state = 'queued'),
      l AS MATERIALIZED (
        SELECT d.id, place.n FROM deliveries d JOIN place ON place.id = d.id WHERE d.state = 'queued' ORDER BY d.id FOR UPDATE OF d SKIP LOCKED)
      UPDATE deliveries d SET wake_at = clock() + (l.n::float8 / $1) * interval '1 second',
        due_at = least(d.due_at, clock() + (l.n::float8 / $1) * interval '1 second') FROM l WHERE d.id = l.id`,
    values: [perSecond],
  })
  const events = await db.query({
    name: 'epoch_events',
    text: `WITH place AS MATERIALIZED (
        SELECT id, row_number() OVER (ORDER BY due_at, seq) AS n FROM events WHERE due_at IS NOT NULL AND route_tries = 0),
      l AS MATERIALIZED (
        SELECT e.id, place.n FROM events e JOIN place ON place.id = e.id WHERE e.state = 'accepted' ORDER BY e.id FOR UPDATE OF e SKIP LOCKED)
      UPDATE events e SET due_at = clock() + (l.n::float8 / $1) * interval '1 second' FROM l WHERE e.id = l.id`,
    values: [perSecond],
  })
  return { events: events.rowCount ?? 0, deliveries: deliveries.rowCount ?? 0 }
}
