import { createPrivateKey, createPublicKey, createSecretKey, type KeyObject } from 'node:crypto'

/**
 * The key of a Standard Webhooks signing secret (github.com/standard-webhooks/standard-webhooks, spec 1.0.0):
 * `whsec_<base64>` signs with HMAC-SHA256 (v1), `whsk_<base64>` with ed25519 (v1a).
 */
export type SigningKey =
  | { kind: 'hmac' | 'ed25519'; key: KeyObject }
  /** What was expected, without a word of the secret. */
  | { kind: 'invalid'; expected: string }

/** The spec asks for 24 to 64 bytes; what is in use is often shorter, what has fewer than these can be guessed. */
const hmacBytesMin = 12
const hmacBytesMax = 1_024

export function readSigningKey(secret: string): SigningKey {
  if (secret.startsWith('whsec_')) return hmacKey(fromBase64(secret.slice('whsec_'.length)))
  if (secret.startsWith('whsk_')) return ed25519Key(fromBase64(secret.slice('whsk_'.length)))
  return invalid('expected whsec_<base64> (HMAC) or whsk_<base64> (ed25519)')
}

function hmacKey(bytes: Buffer | undefined): SigningKey {
  if (!bytes) return invalid('expected base64 after whsec_')
  if (bytes.length < hmacBytesMin || bytes.length > hmacBytesMax)
    return invalid(`expected base64 of ${hmacBytesMin} to ${hmacBytesMax} bytes after whsec_, found ${bytes.length}`)
  // A key object: a key in bytes makes each signature four times as slow.
  return { kind: 'hmac', key: createSecretKey(bytes) }
}

/** RFC 8410 §7: what stands before the 32 bytes of a seed in PKCS#8. */
const pkcs8Head = Buffer.from('302e020100300506032b657004220420', 'hex')

/** The forms in which libraries write an ed25519 private key: seed (32 bytes), seed and public key (64), PKCS#8. */
function ed25519Key(bytes: Buffer | undefined): SigningKey {
  if (!bytes) return invalid('expected base64 after whsk_')
  const isSeed = bytes.length === 32 || bytes.length === 64
  const key = privateKey(isSeed ? Buffer.concat([pkcs8Head, bytes.subarray(0, 32)]) : bytes)
  if (key?.asymmetricKeyType !== 'ed25519')
    return invalid(
      `expected an ed25519 private key after whsk_ (its seed of 32 bytes, seed and public key of 64, or PKCS#8), found ${bytes.length} bytes`,
    )
  const publicKey = createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32)
  if (bytes.length === 64 && !publicKey.equals(bytes.subarray(32)))
    return invalid('expected an ed25519 private key after whsk_ whose two halves belong together')
  return { kind: 'ed25519', key }
}

function privateKey(der: Buffer): KeyObject | undefined {
  try {
    return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
  } catch {
    // OpenSSL refuses what is no key by throwing.
    return undefined
  }
}

/** Padding may be missing in what people paste; anything else that isn't base64 is refused, not skipped. */
function fromBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64')
  const bare = (base64: string) => base64.replace(/=+$/, '')
  return bytes.length > 0 && bare(bytes.toString('base64')) === bare(text) ? bytes : undefined
}

function invalid(expected: string): SigningKey {
  return { kind: 'invalid', expected }
}
