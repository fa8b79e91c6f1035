import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { destinationSpec, limitsMax, splitDestinationSecrets } from './destination.ts'

const parse = (settings: object) => destinationSpec.safeParse({ name: 'crm', url: 'https://crm.example', ...settings })
const problemsOf = (settings: object) =>
  parse(settings).error?.issues.map(({ path, message }) => `${path.join('.')}: ${message}`) ?? []

describe('limits', () => {
  test('are any of four, up to their maxima', () => {
    for (const limits of [{ perSecond: 1 }, { perHour: 5, concurrency: 2 }, limitsMax])
      expect(parse({ limits }).data?.limits).toEqual(limits)
    expect(parse({}).data).not.toHaveProperty('limits')
  })

  test.each(Object.entries(limitsMax))('%s is a whole number from 1 to %i', (key, most) => {
    for (const value of [0, -1, 1.5, most + 1, '5', null, Infinity])
      expect(problemsOf({ limits: { [key]: value } }), String(value)).toEqual([
        `limits.${key}: expected a whole number from 1 to ${most}`,
      ])
  })

  test('say at least one thing, and nothing unknown', () => {
    expect(problemsOf({ limits: {} })).toEqual([
      'limits: expected at least one of perSecond, perMinute, perHour, concurrency',
    ])
    expect(parse({ limits: { perSecond: 1, perDay: 5 } }).success).toBe(false)
  })
})

test('a tenant is a name', () => {
  expect(parse({ tenant: 'acme-2' }).data?.tenant).toBe('acme-2')
  for (const tenant of ['', 'Acme', 'a b', '-a', 'x'.repeat(64), 7]) expect(parse({ tenant }).success).toBe(false)
})

test('tenant and limits are no secrets', () => {
  const spec = destinationSpec.parse({
    name: 'crm',
    url: 'https://crm.example',
    tenant: 'acme',
    limits: { perSecond: 5 },
  })
  expect(splitDestinationSecrets(spec)).toMatchObject({
    open: { tenant: 'acme', limits: { perSecond: 5 } },
    secret: undefined,
  })
})

describe('a signing secret', () => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const pkcs8 = privateKey.export({ format: 'der', type: 'pkcs8' })
  const raw = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32)
  const other = generateKeyPairSync('ed25519').publicKey.export({ format: 'der', type: 'spki' }).subarray(-32)
  const x25519 = generateKeyPairSync('x25519').privateKey.export({ format: 'der', type: 'pkcs8' })
  const signedBy = (secret: string) => problemsOf({ signing: { secrets: [secret] } })
  const whsec = (bytes: number) => `whsec_${Buffer.alloc(bytes, 7).toString('base64')}`
  const whsk = (bytes: Buffer) => `whsk_${bytes.toString('base64')}`

  test('is an HMAC key of some length, or an ed25519 key in any form that libraries write', () => {
    for (const secret of [
      whsec(12),
      whsec(24),
      whsec(64),
      whsec(25).replace(/=+$/, ''),
      whsk(pkcs8.subarray(-32)),
      whsk(Buffer.concat([pkcs8.subarray(-32), raw])),
      whsk(pkcs8),
    ])
      expect(signedBy(secret), secret).toEqual([])
  })

  test.each([
    ['too short', whsec(11), 'expected base64 of 12 to 1024 bytes after whsec_, found 11'],
    ['too long', whsec(1_025), 'expected base64 of 12 to 1024 bytes after whsec_, found 1025'],
    ['empty', 'whsec_', 'expected base64 after whsec_'],
    ['cut off', `${whsec(24)}A`, 'expected base64 after whsec_'],
    ['not base64', 'whsec_c2VjcmV0 c2VjcmV0IQ==', 'expected base64 after whsec_'],
    ['of no known kind', 'secret', 'expected whsec_<base64> (HMAC) or whsk_<base64> (ed25519)'],
    ['a public key', `whpk_${raw.toString('base64')}`, 'expected whsec_<base64> (HMAC) or whsk_<base64> (ed25519)'],
    ['an ed25519 key cut off', whsk(pkcs8.subarray(-31)), /^expected an ed25519 private key .* found 31 bytes$/],
    ['a key of another curve', whsk(x25519), /^expected an ed25519 private key/],
    ['two halves of two keys', whsk(Buffer.concat([pkcs8.subarray(-32), other])), /two halves belong together$/],
  ])('is refused when it is %s, and not quoted', (_, secret, expected) => {
    const [problem = ''] = signedBy(secret)
    expect(problem.replace('signing.secrets.0: ', '')).toMatch(expected)
    expect(problem).not.toContain(secret.slice(6) || '\n')
  })
})
