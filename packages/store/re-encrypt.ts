import type pg from 'pg'
import { inTransaction, type Db } from './connect.ts'
import { openSecret, sealSecret, type EncryptionKeys } from './secrets.ts'

const tables = ['sources', 'destinations'] as const

/**
 * Seals every stored secret with the first key, deleted rows' too: what is under way may still need them. All or
 * nothing, while no configuration changes; versions stay, since nothing that decides has changed. Returns how many
 * rows were under another key. Whoever reads the configuration must know the first key already.
 */
export async function reEncryptSecrets(durable: pg.Pool, keys: EncryptionKeys): Promise<number> {
  return inTransaction(durable, async (db) => {
    await db.query({ text: 'SELECT version FROM config FOR UPDATE', values: [] })
    let moved = 0
    for (const table of tables) moved += await reEncryptTable(db, table, keys)
    return moved
  })
}

async function reEncryptTable(db: Db, table: (typeof tables)[number], keys: EncryptionKeys): Promise<number> {
  const { rows } = await db.query<{ id: string; secrets: string }>({
    text: `SELECT id, secrets FROM ${table} WHERE secrets IS NOT NULL AND split_part(secrets, '.', 1) <> $1 ORDER BY id FOR UPDATE`,
    values: [keys[0]?.id ?? ''],
  })
  await db.query({
    text: `UPDATE ${table} t SET secrets = sealed.secrets FROM unnest($1::text[], $2::text[]) AS sealed(id, secrets) WHERE t.id = sealed.id`,
    values: [
      rows.map(({ id }) => id),
      rows.map(({ id, secrets }) => sealSecret(keys, id, openSecret(keys, id, secrets))),
    ],
  })
  return rows.length
}

/** How many stored secrets are under each key, by the key's id. */
export async function countSecretsByKey(db: Db): Promise<Map<string, number>> {
  const { rows } = await db.query<{ key_id: string; n: number }>({
    text: `SELECT split_part(secrets, '.', 1) AS key_id, count(*)::int AS n
      FROM (SELECT secrets FROM sources UNION ALL SELECT secrets FROM destinations) s WHERE secrets IS NOT NULL GROUP BY 1`,
    values: [],
  })
  return new Map(rows.map((row) => [row.key_id, row.n]))
}
