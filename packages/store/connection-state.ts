import type { ConnectionId, DestinationId } from '@tenterhook/schemas/ids'
import type { Db } from './connect.ts'

/**
 * T9: pauses a connection; no delivery row is touched, and the other connections of its destination go on. Says whether
 * it was running before.
 */
export async function pauseConnection(db: Db, id: ConnectionId, reason: string): Promise<boolean> {
  const { rowCount } = await db.query({
    name: 'pause_connection',
    text: 'UPDATE connections SET paused = true, pause_reason = $2 WHERE id = $1 AND NOT paused AND deleted_at IS NULL',
    values: [id, reason],
  })
  return rowCount === 1
}

/** T9: afterwards the caller feeds the destination that this returns. A deleted connection resumes too: what it held may go. */
export async function resumeConnection(db: Db, id: ConnectionId): Promise<DestinationId | undefined> {
  const { rows } = await db.query<{ destination_id: DestinationId }>({
    name: 'resume_connection',
    text: 'UPDATE connections SET paused = false, pause_reason = NULL WHERE id = $1 RETURNING destination_id',
    values: [id],
  })
  return rows[0]?.destination_id
}
