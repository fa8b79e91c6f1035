import { createHash, createHmac, createSecretKey, hash, timingSafeEqual, verify, type KeyObject } from 'node:crypto'
import {
  readPublicKey,
  readSharedKey,
  type PublicKeyForm,
  type SharedKeyForm,
} from '@tenterhook/schemas/verification-key'
import type { SignatureRow } from './row.ts'

/** What is signed, in pieces that are hashed one after the other; `secretPiece` stands for the secret itself (plain keyed hashes). */
export type Piece = string | Buffer | typeof secretPiece
export const secretPiece = Symbol('secret')

export type Match = 'match' | 'mismatch' | 'malformed'

/** A secret ready for use. `version` tells keys apart where one header lists signatures of several kinds. */
export type Key = SharedKey | PublicKey

export interface SharedKey {
  kind: 'shared'
  version: 'v1'
  sign(pieces: readonly Piece[]): string
  match(pieces: readonly Piece[], signatures: readonly string[]): Match
  /** HMAC-SHA256 of a text, for challenges that are answered with one. */
  mac(text: string): Buffer
}

export interface PublicKey {
  kind: 'public'
  version: 'v1a'
  match(pieces: readonly Piece[], signatures: readonly string[]): Match
}

type Encoding = SignatureRow['encoding']
type Algorithm = SignatureRow['algorithm']

/** undefined when the secret can't be used: then there is no key, never a key that anything matches. */
export function compileKey(
  { algorithm, key, encoding }: Pick<SignatureRow, 'algorithm' | 'key' | 'encoding'>,
  secret: string,
): Key | undefined {
  if (key === 'standard' && secret.startsWith('whpk_')) return publicKey('ed25519', 'ed25519', encoding, secret)
  if (key === 'ed25519' || key === 'p256') return publicKey(key, algorithm, encoding, secret)
  return sharedKey(key, algorithm, encoding, secret)
}

function sharedKey(
  form: SharedKeyForm,
  algorithm: Algorithm,
  encoding: Encoding,
  secret: string,
): SharedKey | undefined {
  const bytes = readSharedKey(form, secret)
  if (!bytes) return undefined
  const key = createSecretKey(bytes)
  const hmac = algorithm.startsWith('hmac-')
  const name = hmac ? algorithm.slice('hmac-'.length) : algorithm
  const sign = (pieces: readonly Piece[]) => {
    const digest = hmac ? createHmac(name, key) : createHash(name)
    for (const piece of pieces) digest.update(piece === secretPiece ? bytes : piece)
    return digest.digest(encoding)
  }
  return {
    kind: 'shared',
    version: 'v1',
    sign,
    match(pieces, signatures) {
      const expected = sign(pieces)
      let result: Match = 'malformed'
      for (const signature of signatures) {
        // The expected text is compared, so there is no decoder that could be lenient; only the case of hex is free.
        if (signature.length !== expected.length) continue
        if (equalInConstantTime(encoding === 'hex' ? signature.toLowerCase() : signature, expected)) return 'match'
        result = 'mismatch'
      }
      return result
    },
    mac: (text) => createHmac('sha256', key).update(text).digest(),
  }
}

function publicKey(form: PublicKeyForm, algorithm: Algorithm, encoding: Encoding, text: string): PublicKey | undefined {
  const key = readPublicKey(form, text)
  if (!key) return undefined
  return {
    kind: 'public',
    version: 'v1a',
    match(pieces, signatures) {
      const content = Buffer.concat(
        pieces.map((piece) =>
          typeof piece === 'string' ? Buffer.from(piece, 'utf8') : piece === secretPiece ? Buffer.alloc(0) : piece,
        ),
      )
      let result: Match = 'malformed'
      for (const signature of signatures) {
        const bytes = decodeStrictly(signature, encoding)
        if (!bytes || (form === 'ed25519' && bytes.length !== 64)) continue
        if (verifyBytes(algorithm, content, key, bytes)) return 'match'
        result = 'mismatch'
      }
      return result
    },
  }
}

function verifyBytes(algorithm: Algorithm, content: Buffer, key: KeyObject, signature: Buffer): boolean {
  try {
    return verify(algorithm === 'ed25519' ? null : 'sha256', content, key, signature)
  } catch {
    // OpenSSL throws, rather than answers, for some bytes that are no signature; they are refused like any other.
    return false
  }
}

/** The bytes of a signature, only if encoding them again gives the same text: no trailing junk, no second spelling. */
export function decodeStrictly(text: string, encoding: Encoding): Buffer | undefined {
  const spelling = encoding === 'hex' ? text.toLowerCase() : text
  const bytes = Buffer.from(spelling, encoding)
  return bytes.length > 0 && bytes.toString(encoding) === spelling ? bytes : undefined
}

/** Equal texts? A near miss takes as long as a far one. Their lengths may show: those of signatures are no secret. */
export function equalInConstantTime(one: string, other: string): boolean {
  const left = Buffer.from(one, 'utf8')
  const right = Buffer.from(other, 'utf8')
  return left.length === right.length && timingSafeEqual(left, right)
}

/** The same for secrets, whose length must not show either. */
export function equalSecrets(one: Buffer, other: Buffer): boolean {
  return timingSafeEqual(hash('sha256', one, 'buffer'), hash('sha256', other, 'buffer'))
}
