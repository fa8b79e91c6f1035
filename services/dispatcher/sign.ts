/**
 * Standard Webhooks signatures (github.com/standard-webhooks/standard-webhooks, spec 1.0.0): `v1` is HMAC-SHA256 under a
 * `whsec_` secret, `v1a` is ed25519 under a `whsk_` key, over `{id}.{timestamp}.{body}`.
 */
import { createHmac, sign as signAsymmetric } from 'node:crypto'
import { readSigningKey } from '@tenterhook/schemas/signing-key'

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
  const read = readSigningKey(secret)
  switch (read.kind) {
    case 'hmac':
      return (head, body) => `v1,${createHmac('sha256', read.key).update(head).update(body).digest('base64')}`
    case 'ed25519':
      return (head, body) =>
        `v1a,${signAsymmetric(null, Buffer.concat([Buffer.from(head), body]), read.key).toString('base64')}`
    case 'invalid':
      throw new SigningSecretError(`signing secret ${index + 1}: ${read.expected}`)
  }
}
