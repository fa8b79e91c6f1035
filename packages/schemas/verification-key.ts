import { createPublicKey, type KeyObject } from 'node:crypto'

/**
 * How a secret is read from what an operator pastes. `utf8`: its bytes as they are; `nfkd`: Unicode-normalised
 * first (EasyPost); `html`: HTML entities of quotes and brackets decoded (WooCommerce stores secrets encoded);
 * `hex`, `base64`: decoded; `standard`: Standard Webhooks, `whsec_` + base64 or bare base64.
 */
export type SharedKeyForm = 'utf8' | 'nfkd' | 'html' | 'hex' | 'base64' | 'standard'

/** `ed25519`: a raw 32-byte key in hex, base64 or `whpk_` + base64, or SPKI in PEM; `p256`: SPKI DER in base64, or PEM. */
export type PublicKeyForm = 'ed25519' | 'p256'

const entities: Readonly<Record<string, string>> = { quot: '"', lt: '<', gt: '>', amp: '&' }
const entity = /&(?:(quot|lt|gt|amp)|#0*(34|38|39|60|62)|#[xX]0*(22|26|27));/g
const whitespace = /\s+/g
const ed25519SpkiHead = Buffer.from('302a300506032b6570032100', 'hex')

/** The key bytes of a shared secret; undefined when it can't be read or has no bytes (an HMAC with an empty key verifies anything). */
export function readSharedKey(form: SharedKeyForm, secret: string): Buffer | undefined {
  const key = decodeSharedKey(form, secret)
  return key && key.length > 0 ? key : undefined
}

function decodeSharedKey(form: SharedKeyForm, secret: string): Buffer | undefined {
  switch (form) {
    case 'utf8':
      return Buffer.from(secret, 'utf8')
    case 'nfkd':
      return Buffer.from(secret.normalize('NFKD'), 'utf8')
    case 'html':
      return Buffer.from(decodeEntities(secret), 'utf8')
    case 'hex':
      return /^(?:[0-9a-fA-F]{2})+$/.test(secret) ? Buffer.from(secret, 'hex') : undefined
    case 'base64':
      return fromBase64(secret)
    case 'standard':
      // What begins with whpk_ or whsk_ is no base64, so a public key never ends as an HMAC key that anyone knows.
      return fromBase64(secret.startsWith('whsec_') ? secret.slice('whsec_'.length) : secret)
  }
}

/** A sender's public key; undefined when it can't be read, is of another kind, or is of small order. */
export function readPublicKey(form: PublicKeyForm, text: string): KeyObject | undefined {
  const der = form === 'ed25519' ? ed25519Spki(text.trim()) : spki(text.trim())
  if (!der) return undefined
  try {
    const key = createPublicKey({ key: der, format: 'der', type: 'spki' })
    const wanted =
      form === 'ed25519' ? key.asymmetricKeyType === 'ed25519' : key.asymmetricKeyDetails?.namedCurve === 'prime256v1'
    if (!wanted || (form === 'ed25519' && isSmallOrder(key.export({ format: 'der', type: 'spki' }).subarray(-32))))
      return undefined
    return key
  } catch {
    // OpenSSL refuses DER of other shapes and points off the curve by throwing.
    return undefined
  }
}

function ed25519Spki(text: string): Buffer | undefined {
  if (text.startsWith('-----BEGIN')) return spki(text)
  const bare = text.startsWith('whpk_') ? text.slice(5) : text
  const raw = /^[0-9a-fA-F]{64}$/.test(bare) ? Buffer.from(bare, 'hex') : fromBase64(bare)
  return raw?.length === 32 ? Buffer.concat([ed25519SpkiHead, raw]) : undefined
}

function spki(text: string): Buffer | undefined {
  const pem = /^-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----$/.exec(text)
  return fromBase64((pem?.[1] ?? text).replace(whitespace, ''))
}

/** Padding may be missing in what people paste; anything else that isn't base64 is refused, not skipped. */
function fromBase64(text: string): Buffer | undefined {
  return /^[A-Za-z0-9+/]+={0,2}$/.test(text) && text.replace(/=+$/, '').length % 4 !== 1
    ? Buffer.from(text, 'base64')
    : undefined
}

function decodeEntities(text: string): string {
  return text.replace(entity, (_whole, name?: string, decimal?: string, hex?: string) => {
    if (name !== undefined) return entities[name] ?? ''
    return String.fromCharCode(decimal === undefined ? Number.parseInt(hex ?? '', 16) : Number.parseInt(decimal, 10))
  })
}

/**
 * The y-coordinates of the points of order 1, 2, 4 and 8 on edwards25519, and those that reduce to them mod p
 * (little-endian, sign bit clear). Under such a key anyone can make signatures that verify (R = the identity, S = 0), and OpenSSL before 3.5 doesn't ask.
 */
const smallOrder: ReadonlySet<string> = new Set([
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
])

function isSmallOrder(rawKey: Buffer): boolean {
  const y = Buffer.from(rawKey)
  y[31] = (y[31] ?? 0) & 0x7f
  return smallOrder.has(y.toString('hex'))
}
