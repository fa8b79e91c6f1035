import { describe, expect, it } from 'vitest'
import { readPublicKey, readSharedKey } from './verification-key.ts'
import {
  joinVerification,
  schemes,
  secretsMax,
  splitVerification,
  templateParts,
  templateSlots,
  verificationSchema,
  type VerificationInput,
} from './verification.ts'

function errorsOf(input: unknown): string[] {
  const result = verificationSchema.safeParse(input)
  return result.success ? [] : result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`)
}
const hmac = { scheme: 'hmac', secret: 'hmac-secret', header: 'X-Signature' } as const

describe('a verification', () => {
  it('takes one secret or several and always holds a list', () => {
    expect(verificationSchema.parse({ scheme: 'stripe', secret: 'whsec_a' })).toEqual({
      scheme: 'stripe',
      secrets: ['whsec_a'],
    })
    expect(verificationSchema.parse({ scheme: 'stripe', secrets: ['new', 'old'] })).toEqual({
      scheme: 'stripe',
      secrets: ['new', 'old'],
    })
  })

  it('names what it wants when the secret is missing, doubled, empty or too many', () => {
    expect(errorsOf({ scheme: 'stripe' })).toEqual(['secret: expected secret, or secrets while one is rotated'])
    expect(errorsOf({ scheme: 'stripe', secret: 'a', secrets: ['b'] })).toEqual([
      'secret: expected either secret or secrets, not both',
    ])
    expect(errorsOf({ scheme: 'stripe', secret: '' })).toEqual(['secret: expected a secret that is not empty'])
    expect(errorsOf({ scheme: 'stripe', secrets: [] })).toEqual(['secrets: expected at least one secret'])
    expect(errorsOf({ scheme: 'stripe', secrets: ['a', ''] })).toEqual([
      'secrets.1: expected a secret that is not empty',
    ])
    expect(errorsOf({ scheme: 'stripe', secrets: Array.from({ length: secretsMax + 1 }, () => 'a') })).toEqual([
      `secrets: expected at most ${secretsMax} secrets`,
    ])
  })

  it('refuses unknown schemes and settings a scheme doesn’t have', () => {
    expect(errorsOf({ scheme: 'strip', secret: 'a' })[0]).toMatch(
      /^scheme: expected one of the schemes activecampaign, .*stripe, /,
    )
    expect(errorsOf({ scheme: 'github', secret: 'a', tolerance: '5m' })[0]).toMatch(/tolerance/)
    expect(errorsOf({ scheme: 'none', secret: 'a' })[0]).toMatch(/secret/)
  })

  it.each(schemes.filter((scheme) => scheme !== 'none'))('%s: refuses an empty secret', (scheme) => {
    expect(errorsOf({ scheme, secret: '', header: scheme === 'hmac' ? 'X' : undefined })).not.toEqual([])
    expect(errorsOf({ scheme, secrets: [''] })).not.toEqual([])
  })

  it('refuses secrets that are not in the form the provider shows', () => {
    const whsec = 'expected whsec_<base64> (or the bare base64), or whpk_<base64> of an ed25519 public key'
    for (const secret of ['whsec_', 'whsec_!!', 'whsk_YWJj', 'whpk_YWJj', 'not base64'])
      expect(errorsOf({ scheme: 'svix', secret })).toEqual([`secret: ${whsec}`])
    for (const secret of ['whsec_YWJj', 'YWJj', 'whsec_YWI=', 'whsec_YWI'])
      expect(errorsOf({ scheme: 'svix', secret })).toEqual([])
    expect(errorsOf({ scheme: 'adyen-banking', secret: 'ABC' })).toEqual([
      'secret: expected the key in hex, as the provider shows it',
    ])
    expect(errorsOf({ scheme: 'basic', secret: 'nocolon' })).toEqual(['secret: expected user:password'])
    expect(errorsOf({ scheme: 'api-key', secret: ' padded ' })).toEqual([
      'secret: expected printable ASCII: a header carries nothing else reliably',
    ])
    expect(errorsOf({ ...hmac, key: 'hex', secret: 'zz' })).toEqual(['secret: expected the key in hex'])
  })

  it('refuses templates that would leave something unsigned', () => {
    const timestamp = { header: 'X-Timestamp' }
    expect(errorsOf({ ...hmac, signed: 'constant' })).toEqual([
      'signed: expected {body}: without it any body would pass',
    ])
    expect(errorsOf({ ...hmac, timestamp })).toEqual([
      'signed: expected {timestamp}: an unsigned timestamp proves nothing',
    ])
    expect(errorsOf({ ...hmac, signed: '{timestamp}{body}' })).toEqual([
      'timestamp: expected a timestamp header for {timestamp}',
    ])
    expect(errorsOf({ ...hmac, signed: '{id}.{body}' })).toEqual(['idHeader: expected a header for {id}'])
    expect(errorsOf({ ...hmac, idHeader: 'X-Id' })).toEqual(['signed: expected {id}: an unsigned id proves nothing'])
    expect(errorsOf({ ...hmac, idHeader: 'X-Id', signed: '{id}{body}' })).toEqual([
      'signed: expected text after {id}: without it the id can be cut elsewhere',
    ])
    expect(errorsOf({ ...hmac, signed: '{secret}{body}' })[0]).toMatch(/^signed: expected text and the placeholders/)
    expect(errorsOf({ ...hmac, signed: '{timestamp}.{body}', timestamp })).toEqual([])
  })

  it('parses its own output unchanged, and the two halves join to the whole', () => {
    const inputs: VerificationInput[] = [
      { scheme: 'none' },
      { scheme: 'stripe', secrets: ['a', 'b'], tolerance: '10m' },
      { scheme: 'meta', secret: 'app', verifyToken: 'hello' },
      { scheme: 'query', secret: 's', type: { path: 'type' } },
      { ...hmac, signed: '{timestamp}.{body}', timestamp: { header: 'X-T', format: 'rfc3339' } },
    ]
    for (const input of inputs) {
      const verification = verificationSchema.parse(input)
      expect(verificationSchema.parse(verification)).toEqual(verification)
      const { open, secret } = splitVerification(verification)
      expect(joinVerification(JSON.parse(JSON.stringify(open)), JSON.parse(JSON.stringify(secret)))).toEqual(
        verification,
      )
      for (const word of ['"a"', '"b"', 'app', 'hello', '"s"', 'hmac-secret'])
        expect(JSON.stringify(open)).not.toContain(word)
    }
    expect(() => joinVerification({ scheme: 'stripe' }, {})).toThrow(/expected secret/)
    expect(() => joinVerification(null, null)).toThrow()
  })
})

describe('template parts', () => {
  it('are text and slots, in order', () => {
    expect(templateParts('v0:{timestamp}:{body}', templateSlots)).toEqual([
      { literal: 'v0:' },
      { slot: 'timestamp' },
      { literal: ':' },
      { slot: 'body' },
    ])
    expect(templateParts('', templateSlots)).toEqual([])
    for (const wrong of ['{', '}', '{body', '{Body}', '{}', '{{body}}', '{constructor}'])
      expect(templateParts(wrong, templateSlots), wrong).toBeUndefined()
  })
})

describe('keys', () => {
  const text = (key: Buffer | undefined) => key?.toString('utf8')

  it('are read in each form, strictly', () => {
    expect(text(readSharedKey('utf8', 'whsec_x'))).toBe('whsec_x')
    expect(text(readSharedKey('nfkd', 'é'))).toBe('e\u0301')
    expect(text(readSharedKey('html', 'a&quot;b&#039;c&#x27;&lt;&gt;&amp;quot;&unknown;'))).toBe(
      "a\"b'c'<>&quot;&unknown;",
    )
    expect(readSharedKey('hex', '00fF')).toEqual(Buffer.from([0, 255]))
    for (const wrong of ['', '0', '0g', '00 ']) expect(readSharedKey('hex', wrong)).toBeUndefined()
    for (const wrong of ['', '=', 'YWJj!', 'Y', 'YW Jj', 'YWJj==='])
      expect(readSharedKey('base64', wrong)).toBeUndefined()
    expect(text(readSharedKey('standard', 'whsec_YWJj'))).toBe('abc')
  })

  it('that are public never become HMAC keys', () => {
    expect(readSharedKey('standard', 'whpk_iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=')).toBeUndefined()
    expect(readSharedKey('standard', 'whsk_iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=')).toBeUndefined()
  })

  it('of ed25519 are read in hex, base64, whpk_ and PEM, and are the same key', () => {
    const hex = '8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c'
    const base64 = Buffer.from(hex, 'hex').toString('base64')
    const pem = readPublicKey('ed25519', hex)?.export({ format: 'pem', type: 'spki' }).toString() ?? ''
    for (const spelling of [hex.toUpperCase(), base64, `whpk_${base64}`, pem])
      expect(readPublicKey('ed25519', spelling)?.export({ format: 'jwk' }).x).toBe(
        Buffer.from(hex, 'hex').toString('base64url'),
      )
    for (const wrong of ['', hex.slice(2), `${hex}00`, 'whpk_', pem.replace('PUBLIC', 'PRIVATE')])
      expect(readPublicKey('ed25519', wrong)).toBeUndefined()
    expect(readPublicKey('p256', pem)).toBeUndefined()
  })

  it('of small order are refused, because anyone can sign under them', () => {
    const identity = `01${'00'.repeat(31)}`
    const others = [
      '00'.repeat(32),
      `${'00'.repeat(31)}80`,
      '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
      '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85',
      `ec${'ff'.repeat(30)}7f`,
      `ee${'ff'.repeat(30)}ff`,
    ]
    for (const hex of [identity, ...others]) expect(readPublicKey('ed25519', hex), hex).toBeUndefined()
  })
})
