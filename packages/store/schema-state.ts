import { readdir } from 'node:fs/promises'
import type { Db } from './connect.ts'

/** How the schema of a database stands to this version's migrations. */
export type SchemaState =
  | { kind: 'current' }
  /** No migration has run: it is not a database of ours yet. */
  | { kind: 'absent' }
  /** These are still to run. */
  | { kind: 'behind'; missing: string[] }
  /** It has migrations that this version doesn't know. */
  | { kind: 'ahead'; unknown: string[] }

export async function readSchemaState(db: Db): Promise<SchemaState> {
  const { rows: tables } = await db.query<{ there: boolean }>({
    text: `SELECT to_regclass('migrations') IS NOT NULL AS there`,
    values: [],
  })
  if (!tables[0]?.there) return { kind: 'absent' }
  const { rows } = await db.query<{ name: string }>({ text: 'SELECT name FROM migrations', values: [] })
  const ran = rows.map(({ name }) => name)
  const files = (await readdir(new URL('./migrations/', import.meta.url))).filter((file) =>
    /^\d{4}_.*\.sql$/.test(file),
  )
  const unknown = ran.filter((name) => !files.includes(name))
  if (unknown.length > 0) return { kind: 'ahead', unknown: unknown.toSorted() }
  const missing = files.filter((name) => !ran.includes(name))
  return missing.length > 0 ? { kind: 'behind', missing: missing.toSorted() } : { kind: 'current' }
}

const dayMs = 86_400_000

/**
 * The number of days in a row, from the day of `nowMs` on, that have a partition of events made for them; looks at
 * `daysMax` days. Rows of a day without one go to the default partition, which is slower to drop.
 */
export async function countDaysAhead(db: Db, nowMs: number, daysMax: number): Promise<number> {
  const names = Array.from({ length: daysMax }, (_, day) => {
    const date = new Date(nowMs + day * dayMs).toISOString().slice(0, 10).replaceAll('-', '')
    return `events_${date}`
  })
  const { rows } = await db.query<{ there: boolean }>({
    text: 'SELECT to_regclass(name) IS NOT NULL AS there FROM unnest($1::text[]) WITH ORDINALITY AS day(name, n) ORDER BY n',
    values: [names],
  })
  const first = rows.findIndex(({ there }) => !there)
  return first === -1 ? daysMax : first
}
