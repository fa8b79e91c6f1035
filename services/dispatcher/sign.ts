/**
 * Standard Webhooks signatures (github.com/standard-webhooks/standard-webhooks, spec 1.0.0): `v1` is HMAC-SHA256 under a
 * `whsec_` secret, `v1a` is ed25519 under a `whsk_` key, over `{id}.{timestamp}.{body}`.
 */
import { createHmac, createPrivateKey, createPublicKey, createSecretKey, sign as signAsymmetric } from 'node:crypto'
import type { KeyObject } from 'node:crypto'

export type Signer = {
  /**
   * The value of `webhook-signature`: one signature per secret, in their order, so that a receiver that knows the old or
   * the new one finds its own. `id` and `timestampSeconds` must be what `webhook-id` and `webhook-timestamp` say.
   */
  sign(signed: { id: string; timestampSeconds: number; body: Buffer }): string
}

/** A signing secret that is none. The message says which of the list, never its text. */
export class SigningSecretError extends Error {
  readonly code = 'invalid_signing_secret'
}

/** Keys are read here once, not at each signature. @throws SigningSecretError */
export function createSigner(secrets: readonly string[]): Signer {
  const signatures = secrets.map(signatureUnder)
  return {
    sign({ id, timestampSeconds, body }) {
      const head = `${id}.${timestampSeconds}.`
      return signatures.map((signature) => signature(head, body)).join(' ')
    },
  }
}

type Signature = (head: string, body: Buffer) => string

function signatureUnder(secret: string, index: number): Signature {
  if (secret.startsWith('whsec_')) {
    // A key object: a key in bytes makes each signature four times as slow.
    const key = createSecretKey(decode(secret.slice('whsec_'.length), index))
    return (head, body) => `v1,${createHmac('sha256', key).update(head).update(body).digest('base64')}`
  }
  if (secret.startsWith('whsk_')) {
    const key = ed25519Key(decode(secret.slice('whsk_'.length), index), index)
    return (head, body) =>
      `v1a,${signAsymmetric(null, Buffer.concat([Buffer.from(head), body]), key).toString('base64')}`
  }
  throw new SigningSecretError(`signing secret ${index + 1}: expected whsec_<base64> or whsk_<base64>`)
}

function decode(base64: string, index: number): Buffer {
  const bytes = Buffer.from(base64, 'base64')
  if (bytes.length === 0 || bytes.toString('base64').replace(/=+$/, '') !== base64.replace(/=+$/, '')) {
    throw new SigningSecretError(`signing secret ${index + 1}: expected base64 after the prefix`)
  }
  return bytes
}

/** RFC 8410 §7: what stands before the 32 bytes of a seed in PKCS#8. */
const pkcs8Head = Buffer.from('302e020100300506032b657004220420', 'hex')

/** The forms in which libraries write an ed25519 private key: seed (32 bytes), seed and public key (64), PKCS#8. */
function ed25519Key(bytes: Buffer, index: number): KeyObject {
  const isSeed = bytes.length === 32 || bytes.length === 64
  try {
    const key = createPrivateKey({
      key: isSeed ? Buffer.concat([pkcs8Head, bytes.subarray(0, 32)]) : bytes,
      format: 'der',
      type: 'pkcs8',
    })
    const publicKey = createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32)
    if (key.asymmetricKeyType === 'ed25519' && (bytes.length !== 64 || publicKey.equals(bytes.subarray(32)))) return key
  } catch (error) {
    throw new SigningSecretError(`signing secret ${index + 1}: not a private key`, { cause: error })
  }
  throw new SigningSecretError(
    `signing secret ${index + 1}: expected an ed25519 private key (its two halves must belong together)`,
  )
}
