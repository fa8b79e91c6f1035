import { createHmac, generateKeyPairSync, sign as signBytes, type KeyObject } from 'node:crypto'
import type { HeaderPairs } from '@tenterhook/schemas/headers'
import {
  ed25519Schemes,
  p256Schemes,
  schemes,
  standardSchemes,
  verificationSchema,
  type Scheme,
  type Verification,
  type VerificationInput,
} from '@tenterhook/schemas/verification'
import { expect } from 'vitest'
import { signRequest, type Unsigned } from './sign.ts'
import type { RejectionCode, Verdict } from './verdict.ts'
import { compileVerifier } from './verifier.ts'

/** For tests: a valid verification of every scheme, and signed requests for them. */
export const nowMs = 1_760_000_000_000

const ed25519 = generateKeyPairSync('ed25519')
const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const spki = (key: KeyObject) => key.export({ format: 'der', type: 'spki' })
export const ed25519Public = spki(ed25519.publicKey).subarray(-32).toString('hex')
const p256Public = spki(p256.publicKey).toString('base64')

const includes = (names: readonly string[], scheme: string) => names.includes(scheme)

function secretOf(scheme: Scheme, seed: string): string {
  if (includes(standardSchemes, scheme))
    return `whsec_${Buffer.from(`a key of thirty bytes ${seed}`).toString('base64')}`
  if (includes(ed25519Schemes, scheme) || scheme === 'ed25519') return ed25519Public
  if (includes(p256Schemes, scheme)) return p256Public
  if (scheme === 'adyen-banking') return Buffer.from(`a key of thirty bytes ${seed}`).toString('hex')
  if (scheme === 'ms-teams-outgoing') return Buffer.from(`a key of thirty bytes ${seed}`).toString('base64')
  if (scheme === 'basic' || scheme === 'postmark') return `user:${seed}:pässword`
  return `whsec_test_${seed}`
}

const settings: Partial<Record<Scheme, object>> = {
  hmac: {
    header: 'X-Signature',
    prefix: 'v1=',
    signed: '{id}.{timestamp}.{method}.{url}.{body}',
    timestamp: { header: 'X-Timestamp' },
    idHeader: 'X-Id',
  },
  ed25519: {
    header: 'X-Signature',
    encoding: 'base64',
    signed: '{timestamp}.{body}',
    timestamp: { header: 'X-Timestamp' },
  },
}

/** A verification of this scheme with one secret per seed. */
export function verificationOf(scheme: Scheme, ...seeds: string[]): Verification {
  if (scheme === 'none') return verificationSchema.parse({ scheme })
  return verificationSchema.parse({
    scheme,
    secrets: (seeds.length === 0 ? ['one'] : seeds).map((seed) => secretOf(scheme, seed)),
    ...settings[scheme],
  })
}

export const allSchemes = schemes

/** Schemes whose signature covers the body. */
export const signatureSchemes = schemes.filter((scheme) => signRequestKind(scheme) === 'signature')
export const credentialSchemes = schemes.filter((scheme) => signRequestKind(scheme) === 'credential')

function signRequestKind(scheme: Scheme): 'signature' | 'credential' | 'public' | 'none' {
  if (scheme === 'none') return 'none'
  const request = unsigned(scheme)
  const one = signRequest(verificationOf(scheme), request)
  const other = signRequest(verificationOf(scheme), {
    ...request,
    body: Buffer.from(request.body.toString('utf8').replace('4200', '4201')),
  })
  if (one.kind === 'unsignable' || other.kind === 'unsignable') return 'public'
  return JSON.stringify([one.url, one.headers]) === JSON.stringify([other.url, other.headers])
    ? 'credential'
    : 'signature'
}

/** A request that this scheme can sign: a form for the URL-and-form signers, an item list where each item carries the proof. */
export function unsigned(scheme: Scheme): Unsigned {
  const url = 'https://gw.example.com/in/source?tenant=a1'
  if (scheme === 'mandrill') {
    const body = Buffer.from(
      'mandrill_events=%5B%7B%22event%22%3A%22send%22%2C%22_id%22%3A%22abc%22%2C%22ts%22%3A4200%7D%5D',
    )
    return {
      method: 'POST',
      url,
      headers: [['Content-Type', 'application/x-www-form-urlencoded']],
      body,
      nowMs,
      id: 'id_1',
    }
  }
  const body =
    scheme === 'microsoft-graph'
      ? '{"value":[{"id":"a"},{"id":"b","n":4200}]}'
      : '{"id":"evt_1","type":"invoice.paid","amount":4200,"note":"é 漢 😀"}'
  return {
    method: 'POST',
    url,
    headers: [['Content-Type', 'application/json']],
    body: Buffer.from(body, 'utf8'),
    nowMs,
    id: 'id_1',
  }
}

export const signEd25519 = (content: Buffer) => signBytes(null, content, ed25519.privateKey)
export const signP256 = (content: Buffer) => signBytes('sha256', content, p256.privateKey)

/** Judges one request by one verification, as an operator would write it. */
export function verifyWith(
  verification: VerificationInput,
  request: { method?: string; url?: string; headers?: HeaderPairs; body?: string | Buffer },
  atMs = nowMs,
): Verdict {
  const { method = 'POST', url = testUrl, headers = [], body = '' } = request
  return compileVerifier(verificationSchema.parse(verification)).verify(
    { method, url, headers, body: Buffer.from(body) },
    atMs,
  )
}

export const testUrl = 'https://gw.example.com/in/source'
export const nowSeconds = String(nowMs / 1_000)

export function hmacOf(
  content: string,
  secret: string,
  encoding: 'hex' | 'base64' = 'hex',
  algorithm = 'sha256',
): string {
  return createHmac(algorithm, secret).update(content).digest(encoding)
}

/** Matches a rejection with this code. */
export const rejected = (code: RejectionCode): unknown => expect.objectContaining({ kind: 'rejected', code })
