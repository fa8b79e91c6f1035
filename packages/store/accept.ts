import type { EventId, SourceId } from '@tenterhook/schemas/ids'
import type { Db } from './connect.ts'
import { byteaArray, textArray } from './binary.ts'

/** A verified request, ready to be kept. */
export interface NewEvent {
  id: EventId
  sourceId: SourceId
  sourceVersion: number
  /** SHA-256 of the dedupe key; null when the request has none and can't be a duplicate. */
  keyHash: Buffer | null
  /** SHA-256 of the body; needed with a key only. */
  bodyHash: Buffer | null
  dedupeWindowMs: number
  type: string | null
  method: string
  /** What follows `/in/<source>`, as received. */
  path: string
  query: string
  /** JSON of HeaderPairs, credentials redacted. */
  headers: string
  body: Buffer
  traceparent: string | null
  remoteAddress: string | null
  receivedAtMs: number
}

export type Acceptance =
  | { kind: 'accepted' }
  /** `firstBodyHash` tells whether the bytes are the first one's. */
  | { kind: 'duplicate'; firstId: EventId; firstBodyHash: Buffer }

/**
 * T1: commits a batch whose keys are distinct, in one durable transaction, and says for each in order what it
 * became. Any error means that nothing of it may be answered 2xx; only `isRowError` ones came before the commit.
 */
export async function acceptEvents(db: Db, batch: readonly NewEvent[], routeWaitMs: number): Promise<Acceptance[]> {
  const { rows } = await db.query<{ n: number; first_id: EventId | null; first_body_hash: Buffer | null }>({
    name: 'accept',
    text: `SELECT n, first_id, first_body_hash
      FROM accept_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16 * interval '1 millisecond')`,
    values: [
      batch.map((event) => event.id),
      batch.map((event) => event.sourceId),
      batch.map((event) => event.sourceVersion),
      byteaArray(batch.map((event) => event.keyHash)),
      byteaArray(batch.map((event) => event.bodyHash)),
      batch.map((event) => event.dedupeWindowMs),
      textArray(batch.map((event) => event.type)),
      textArray(batch.map((event) => event.method)),
      textArray(batch.map((event) => event.path)),
      textArray(batch.map((event) => event.query)),
      textArray(batch.map((event) => event.headers)),
      byteaArray(batch.map((event) => event.body)),
      textArray(batch.map((event) => event.traceparent)),
      textArray(batch.map((event) => event.remoteAddress)),
      batch.map((event) => new Date(event.receivedAtMs).toISOString()),
      routeWaitMs,
    ],
  })
  const acceptances: Acceptance[] = batch.map(() => ({ kind: 'accepted' }))
  for (const row of rows) {
    // A key without a winner would be neither an event nor a duplicate of one: nobody may be told yes.
    if (row.first_id === null || row.first_body_hash === null)
      throw new Error(`the dedupe key of ${batch[row.n - 1]?.id} has no first event`)
    acceptances[row.n - 1] = { kind: 'duplicate', firstId: row.first_id, firstBodyHash: row.first_body_hash }
  }
  return acceptances
}

/** A CHECK of ours, which no request can break: it comes from a default partition whose day was just given its own. */
const checkViolation = '23514'

/**
 * Whether Postgres refused a row of the batch (SQLSTATE classes 22 and 23): its error reply to a single-statement
 * transaction always comes before the commit, so the batch may be bisected. Every other failure leaves it unknown.
 */
export function isRowError(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return typeof code === 'string' && code !== checkViolation && /^2[23][0-9A-Z]{3}$/.test(code)
}
