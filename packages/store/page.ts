import type pg from 'pg'
import { lowestIdAt } from '@tenterhook/schemas/ids'
import type { Db } from './connect.ts'

/**
 * Rows that a filter may look at for one page. A filter that finds little in them ends the page with what it found
 * and a cursor: walking a table of millions is then many quick questions and never one that times out or holds a
 * snapshot for seconds.
 */
export const scanRowsMax = 20_000

/** Where a page begins and how much it holds. Lists run from the newest id to the oldest. */
export interface PageRequest {
  limit: number
  /** The `next` of the page before. */
  after?: string | undefined
  /** Bounds on the time in the ids, Unix milliseconds: from, inclusive, and to, exclusive. */
  sinceMs?: number | undefined
  untilMs?: number | undefined
}

export interface Page<Row> {
  rows: Row[]
  /** Where the next page begins; null at the end. It may be set though `rows` is short or empty: see `scanRowsMax`. */
  next: string | null
}

/** A condition on a row's columns; every `?` stands for its value. */
export type Condition = { sql: string; value?: unknown }

/** What is listed, in SQL. All of it is constant text of ours; values travel as parameters. */
export interface Listing {
  prefix: 'evt' | 'dlv' | 'src' | 'dst' | 'con' | 'rej'
  table: string
  /** Read from the table while scanning: what conditions and `show` need, narrow. */
  columns: string
  /** Conditions that an index in the order of ids answers: they don't count as scanning. */
  narrow?: readonly Condition[]
  /** All others. */
  conditions?: readonly Condition[]
  /** The select list over `hit` and `joins`, for the rows of the page only. */
  show: string
  joins?: string
}

/** One page. Stable while rows are inserted: an id that was given out never moves to another page. */
export async function readPage<Row extends pg.QueryResultRow & { id: string }>(
  db: Db,
  page: PageRequest,
  { prefix, table, columns, narrow = [], conditions = [], show, joins = '' }: Listing,
): Promise<Page<Row>> {
  // One row more than asked for tells whether there is a next page.
  const wanted = page.limit + 1
  const values: unknown[] = [
    lowestOf(page.after ?? null, page.untilMs === undefined ? null : lowestIdAt(prefix, page.untilMs)) ?? `${prefix}_~`,
    page.sinceMs === undefined ? `${prefix}_` : lowestIdAt(prefix, page.sinceMs),
    conditions.length === 0 ? wanted : scanRowsMax,
    wanted,
  ]
  const numbered = ({ sql, value }: Condition) =>
    sql.includes('?') ? sql.replaceAll('?', `$${values.push(value)}`) : sql
  const inside = narrow.map((condition) => ` AND (${numbered(condition)})`).join('')
  const matching = conditions.map((condition) => `(${numbered(condition)})`).join(' AND ') || 'true'
  // One statement, so that the page and where it ended are of one snapshot. `seen` is read only as far as `hits` asks.
  const { rows } = await db.query<Row & { scanned_to: string | null }>({
    text: `WITH seen AS MATERIALIZED (
        SELECT ${columns} FROM ${table} WHERE id < $1 AND id >= $2${inside} ORDER BY id DESC LIMIT $3),
      hits AS MATERIALIZED (SELECT * FROM seen WHERE ${matching} ORDER BY id DESC LIMIT $4),
      page AS (SELECT ${show} FROM hits hit ${joins})
      SELECT page.*, ended.scanned_to FROM (
        SELECT CASE WHEN (SELECT count(*) FROM hits) < $4 THEN
          (SELECT CASE WHEN count(*) = $3 THEN min(id) END FROM seen) END AS scanned_to) ended
      LEFT JOIN page ON true ORDER BY page.id DESC`,
    values,
  })
  const hits = rows.filter((row) => row.id !== null)
  const shown = hits.slice(0, page.limit)
  return { rows: shown, next: hits.length > page.limit ? (shown.at(-1)?.id ?? null) : (rows[0]?.scanned_to ?? null) }
}

/** Ids compare by bytes, as they do in Postgres (COLLATE "C"). */
function lowestOf(one: string | null, other: string | null): string | null {
  if (one === null || other === null) return one ?? other
  return one < other ? one : other
}

/** A condition, unless its value is undefined: a filter that was not given. */
export function when(value: unknown, sql: string): Condition[] {
  return value === undefined ? [] : [{ sql, value }]
}
