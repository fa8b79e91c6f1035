import type { Db } from './connect.ts'

/** The first answer to an operator's request, kept under its idempotency key in the request's own transaction. */
export interface Remembered {
  kind: 'replay' | 'retry'
  targetId: string
  /** JSON text. */
  result: string
}

export async function readRemembered(db: Db, key: string): Promise<Remembered | undefined> {
  const { rows } = await db.query<{ kind: Remembered['kind']; target_id: string; result: string }>({
    name: 'remembered',
    text: 'SELECT kind, target_id, result FROM replays WHERE key = $1',
    values: [key],
  })
  return rows[0] && { kind: rows[0].kind, targetId: rows[0].target_id, result: rows[0].result }
}
