import type { Db } from './connect.ts'
import type { Condition } from './page.ts'

/** Which rows of the configuration: one by its id, or the living one of a name; all living ones without it. */
export interface ConfigFilter {
  nameOrId?: string | undefined
}

/** An id finds its row deleted too, since history leads there; a name finds the living one only. */
export function byNameOrId({ nameOrId }: ConfigFilter): Condition[] {
  if (nameOrId === undefined) return [{ sql: 'deleted_at IS NULL' }]
  return [{ sql: 'id = ? OR (name = ? AND deleted_at IS NULL)', value: nameOrId }]
}

/** A name may have been given again and again; this many of its bearers are looked for. */
const bearersMax = 100

/** The ids of all that bear, or bore, this name, or of the one with this id: for filters over history. */
export async function findIds(
  db: Db,
  table: 'sources' | 'destinations' | 'connections',
  nameOrId: string,
): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>({
    name: `find_${table}`,
    text: `SELECT id FROM ${table} WHERE id = $1 OR name = $1 ORDER BY id DESC LIMIT $2`,
    values: [nameOrId, bearersMax],
  })
  return rows.map((row) => row.id)
}
