import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto'
import type { Db } from './connect.ts'

/** Keys of TENTERHOOK_ENCRYPTION_KEYS: the first encrypts, any decrypts. */
export type EncryptionKeys = ReadonlyArray<{ id: string; key: Buffer }>

const ivBytes = 12
const tagBytes = 16

/**
 * AES-256-GCM. The text is `<key id>.<base64 of iv, ciphertext and tag>`; the row it belongs to is authenticated with
 * it, so that a secret can't be moved to another row.
 */
export function sealSecret(keys: EncryptionKeys, row: string, secret: unknown): string {
  const current = keys[0]
  if (!current) throw new SecretError('no_encryption_key', 'no encryption key is configured')
  const iv = randomBytes(ivBytes)
  const cipher = createCipheriv('aes-256-gcm', current.key, iv)
  cipher.setAAD(Buffer.from(row))
  const sealed = Buffer.concat([iv, cipher.update(JSON.stringify(secret), 'utf8'), cipher.final(), cipher.getAuthTag()])
  return `${current.id}.${sealed.toString('base64')}`
}

/** The inverse. Throws `SecretError` when the key is unknown, or the text was changed or moved. */
export function openSecret(keys: EncryptionKeys, row: string, text: string): unknown {
  const dot = text.indexOf('.')
  const id = text.slice(0, dot)
  const found = keys.find((key) => key.id === id)
  if (!found)
    throw new SecretError(
      'unknown_encryption_key',
      `${row} is encrypted with key ${JSON.stringify(id)}, which TENTERHOOK_ENCRYPTION_KEYS does not have`,
    )
  const sealed = Buffer.from(text.slice(dot + 1), 'base64')
  try {
    const decipher = createDecipheriv('aes-256-gcm', found.key, sealed.subarray(0, ivBytes))
    decipher.setAAD(Buffer.from(row))
    decipher.setAuthTag(sealed.subarray(sealed.length - tagBytes))
    return JSON.parse(
      Buffer.concat([decipher.update(sealed.subarray(ivBytes, sealed.length - tagBytes)), decipher.final()]).toString(
        'utf8',
      ),
    )
  } catch (cause) {
    throw new SecretError(
      'secret_unreadable',
      `the secrets of ${row} can't be decrypted with key ${JSON.stringify(id)}: wrong key, or the row was changed`,
      cause,
    )
  }
}

/**
 * Refuses to start with keys that can't open what is stored: a known key id with another key behind it, or a missing
 * key that secrets still need. Remembers new keys by fingerprint.
 */
export async function checkEncryptionKeys(db: Db, keys: EncryptionKeys): Promise<void> {
  for (const { id, key } of keys) {
    const fingerprint = createHash('sha256')
      .update('tenterhook key fingerprint\n')
      .update(key)
      .digest('hex')
      .slice(0, 32)
    const { rows } = await db.query<{ fingerprint: string }>({
      text: `INSERT INTO encryption_keys (id, fingerprint) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET id = excluded.id RETURNING fingerprint`,
      values: [id, fingerprint],
    })
    if (rows[0]?.fingerprint !== fingerprint) {
      throw new SecretError(
        'encryption_key_changed',
        `encryption key ${JSON.stringify(id)} is not the one this database was used with: give a new key a new id, and keep the old one in the list`,
      )
    }
  }
  const { rows } = await db.query<{ key_id: string }>({
    text: `SELECT DISTINCT split_part(secrets, '.', 1) AS key_id FROM (SELECT secrets FROM sources UNION ALL SELECT secrets FROM destinations) s WHERE secrets IS NOT NULL`,
    values: [],
  })
  const missing = rows.map((row) => row.key_id).filter((id) => !keys.some((key) => key.id === id))
  if (missing.length > 0) {
    throw new SecretError(
      'unknown_encryption_key',
      `stored secrets need encryption key ${missing.map((id) => JSON.stringify(id)).join(', ')}, which TENTERHOOK_ENCRYPTION_KEYS does not have`,
    )
  }
}

export class SecretError extends Error {
  readonly code: 'no_encryption_key' | 'unknown_encryption_key' | 'secret_unreadable' | 'encryption_key_changed'
  constructor(code: SecretError['code'], message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'SecretError'
    this.code = code
  }
}
