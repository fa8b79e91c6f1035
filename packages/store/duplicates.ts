import type { DuplicateId, EventId } from '@tenterhook/schemas/ids'
import type { Db } from './connect.ts'
import type { NewEvent } from './accept.ts'

/** Kept per event: enough to see what a sender does, too few to fill the disk. */
export const duplicatesPerEventMax = 20

/**
 * Keeps a duplicate beside its event. One whose bytes differ is kept whole and flagged, so that an operator can promote
 * it to an event; of an equal one only that it came. Beyond the bound nothing is written: false.
 */
export async function keepDuplicate(
  db: Db,
  id: DuplicateId,
  firstId: EventId,
  duplicate: NewEvent,
  differs: boolean,
): Promise<boolean> {
  const { rowCount } = await db.query({
    name: 'duplicate',
    text: `INSERT INTO duplicates (id, event_id, source_id, received_at, differs, type, method, path, query, headers, body, traceparent)
      SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12
      WHERE (SELECT count(*) FROM (SELECT 1 FROM duplicates WHERE event_id = $2 AND differs = $5 LIMIT $13) t) < $13`,
    values: [
      id,
      firstId,
      duplicate.sourceId,
      new Date(duplicate.receivedAtMs).toISOString(),
      differs,
      ...(differs
        ? [
            duplicate.type,
            duplicate.method,
            duplicate.path,
            duplicate.query,
            duplicate.headers,
            duplicate.body,
            duplicate.traceparent,
          ]
        : [null, null, null, null, null, null, null]),
      duplicatesPerEventMax,
    ],
  })
  return rowCount === 1
}

/** Forgets dedupe keys whose window is over, at most `rowsMax`: an expired key is taken over anyway, this only frees space. */
export async function trimDedupe(db: Db, rowsMax: number): Promise<number> {
  const { rowCount } = await db.query({
    name: 'trim_dedupe',
    text: `DELETE FROM dedupe d USING (SELECT source_id, key_hash FROM dedupe WHERE expires_at <= clock() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED) old
      WHERE d.source_id = old.source_id AND d.key_hash = old.key_hash`,
    values: [rowsMax],
  })
  return rowCount ?? 0
}
