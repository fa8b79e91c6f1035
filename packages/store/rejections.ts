import type { RejectionId, SourceId } from '@tenterhook/schemas/ids'
import type { Db } from './connect.ts'
import { textArray } from './binary.ts'

export interface NewRejection {
  id: RejectionId
  atMs: number
  sourceName: string
  sourceId: SourceId | null
  code: string
  status: number
  detail: string
  method: string
  path: string
  remoteAddress: string | null
  bodyBytes: number
  /** Further requests of the same source and code that this row stands for. */
  folded: number
}

/** Keeps rejections, best effort: their rate is bounded by the caller, their number by `trimRejections`. */
export async function recordRejections(db: Db, rejections: readonly NewRejection[]): Promise<void> {
  await db.query({
    name: 'reject',
    text: `INSERT INTO rejections (id, at, source_name, source_id, code, status, detail, method, path, remote_address, body_bytes, folded)
      SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::int[], $7::text[], $8::text[], $9::text[], $10::text[], $11::int[], $12::int[])
      ON CONFLICT DO NOTHING`,
    values: [
      rejections.map((one) => one.id),
      rejections.map((one) => new Date(one.atMs).toISOString()),
      textArray(rejections.map((one) => one.sourceName)),
      textArray(rejections.map((one) => one.sourceId)),
      rejections.map((one) => one.code),
      rejections.map((one) => one.status),
      textArray(rejections.map((one) => one.detail)),
      textArray(rejections.map((one) => one.method)),
      textArray(rejections.map((one) => one.path)),
      textArray(rejections.map((one) => one.remoteAddress)),
      rejections.map((one) => one.bodyBytes),
      rejections.map((one) => one.folded),
    ],
  })
}

/** Drops the oldest rejections beyond `rowsMax`, so that a long flood of bad requests can't fill the disk. */
export async function trimRejections(db: Db, rowsMax: number): Promise<number> {
  const { rowCount } = await db.query({
    name: 'trim_rejections',
    text: 'DELETE FROM rejections WHERE id < (SELECT id FROM rejections ORDER BY id DESC OFFSET $1 LIMIT 1)',
    values: [rowsMax],
  })
  return rowCount ?? 0
}
