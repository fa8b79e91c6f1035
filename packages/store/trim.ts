import { lowestIdAt } from '@tenterhook/schemas/ids'
import type { Db } from './connect.ts'

/** Tables that are not cut by day lose what is older than the retention row by row, in bounded batches. */
const trims = [
  {
    name: 'trim_duplicates',
    text: `DELETE FROM duplicates WHERE id = ANY(ARRAY(SELECT id FROM duplicates WHERE id < $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED))`,
    before: (ms: number) => lowestIdAt('dup', ms),
  },
  {
    name: 'trim_old_rejections',
    text: `DELETE FROM rejections WHERE id = ANY(ARRAY(SELECT id FROM rejections WHERE id < $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED))`,
    before: (ms: number) => lowestIdAt('rej', ms),
  },
  {
    // An idempotency key holds as long: what it replayed is gone too.
    name: 'trim_replays',
    text: `DELETE FROM replays WHERE key = ANY(ARRAY(SELECT key FROM replays WHERE at < $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED))`,
    before: (ms: number) => new Date(ms).toISOString(),
  },
]

/** Deletes the duplicates, rejections and idempotency keys from before `beforeMs`, at most `rowsMax` of each. Says whether there may be more. */
export async function trimOld(db: Db, beforeMs: number, rowsMax: number): Promise<'more' | 'done'> {
  let more = false
  for (const { name, text, before } of trims) {
    const { rowCount } = await db.query({ name, text, values: [before(beforeMs), rowsMax] })
    more ||= rowCount === rowsMax
  }
  return more ? 'more' : 'done'
}

/**
 * Forgets versions of the configuration that were replaced before `beforeMs`, at most `rowsMax`: nothing that is still
 * stored was decided by them. The newest of each stays, however old. Walks the whole history: not for every minute.
 */
export async function trimConfigHistory(db: Db, beforeMs: number, rowsMax: number): Promise<number> {
  const { rowCount } = await db.query({
    name: 'trim_config_history',
    text: `DELETE FROM config_history h USING (
        SELECT old.kind, old.id, old.version FROM config_history old
        WHERE EXISTS (SELECT 1 FROM config_history next
                      WHERE next.kind = old.kind AND next.id = old.id AND next.version > old.version AND next.at < $1)
        LIMIT $2) old
      WHERE h.kind = old.kind AND h.id = old.id AND h.version = old.version`,
    values: [new Date(beforeMs).toISOString(), rowsMax],
  })
  return rowCount ?? 0
}
