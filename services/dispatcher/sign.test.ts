import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { Webhook } from 'standardwebhooks'
import { describe, expect, test } from 'vitest'
import { createSigner, SigningSecretError } from './sign.ts'

const hmacSecret = `whsec_${Buffer.alloc(24, 7).toString('base64')}`
const otherSecret = `whsec_${Buffer.alloc(32, 9).toString('base64')}`
const id = 'dlv_01k0000000000000000000000a'
const timestampSeconds = Math.floor(Date.now() / 1_000)
const body = Buffer.from('{"type":"contact.created","data":{"name":"Zoë"}}')

function headersWith(signature: string) {
  return { 'webhook-id': id, 'webhook-timestamp': String(timestampSeconds), 'webhook-signature': signature }
}

function verifiesAsymmetric(signature: string, publicKey: KeyObject, signed = body): boolean {
  const base64 = signature.replace(/^v1a,/, '')
  return verify(
    null,
    Buffer.concat([Buffer.from(`${id}.${timestampSeconds}.`), signed]),
    publicKey,
    Buffer.from(base64, 'base64'),
  )
}

describe('v1', () => {
  test('is what the standardwebhooks library accepts', () => {
    const signature = createSigner([hmacSecret]).sign({ id, timestampSeconds, body })
    expect(signature).toMatch(/^v1,[A-Za-z0-9+/]{43}=$/)
    new Webhook(hmacSecret).verify(body, headersWith(signature))
  })

  test('is refused for another body, id, time or secret', () => {
    const headers = headersWith(createSigner([hmacSecret]).sign({ id, timestampSeconds, body }))
    const receiver = new Webhook(hmacSecret)
    expect(() => receiver.verify('{}', headers)).toThrow('No matching signature')
    expect(() => receiver.verify(body, { ...headers, 'webhook-id': 'dlv_other' })).toThrow('No matching signature')
    expect(() => receiver.verify(body, { ...headers, 'webhook-timestamp': String(timestampSeconds - 1) })).toThrow(
      'No matching signature',
    )
    expect(() => new Webhook(otherSecret).verify(body, headers)).toThrow('No matching signature')
  })

  test('matches the example that libraries of other languages carry in their tests', () => {
    const signature = createSigner(['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw']).sign({
      id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
      timestampSeconds: 1614265330,
      body: Buffer.from('{"test": 2432232314}'),
    })
    expect(signature).toBe('v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=')
  })

  test('covers bytes that are no text', () => {
    const bytes = Buffer.from([0, 0xff, 0xfe, 0x80])
    const [a, b] = [bytes, Buffer.from([0, 0xff, 0xfe, 0x81])].map((signed) =>
      createSigner([hmacSecret]).sign({ id, timestampSeconds, body: signed }),
    )
    expect(a).not.toBe(b)
  })
})

describe('v1a', () => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const pkcs8 = privateKey.export({ format: 'der', type: 'pkcs8' })
  const seed = pkcs8.subarray(-32)
  const rawPublic = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32)

  test.each([
    ['a seed', seed],
    ['seed and public key', Buffer.concat([seed, rawPublic])],
    ['PKCS#8', pkcs8],
  ])('under a key written as %s is accepted by the public key', (_form, bytes) => {
    const signature = createSigner([`whsk_${bytes.toString('base64')}`]).sign({ id, timestampSeconds, body })
    expect(signature).toMatch(/^v1a,[A-Za-z0-9+/]{86}==$/)
    expect(verifiesAsymmetric(signature, publicKey)).toBe(true)
    expect(verifiesAsymmetric(signature, publicKey, Buffer.from('{}'))).toBe(false)
    expect(verifiesAsymmetric(signature, createPublicKey(generateKeyPairSync('ed25519').privateKey))).toBe(false)
  })

  test('stands beside v1 while a secret rotates, in the order of the secrets', () => {
    const signature = createSigner([otherSecret, hmacSecret, `whsk_${seed.toString('base64')}`]).sign({
      id,
      timestampSeconds,
      body,
    })
    const parts = signature.split(' ')
    expect(parts.map((part) => part.split(',')[0])).toEqual(['v1', 'v1', 'v1a'])
    for (const secret of [otherSecret, hmacSecret]) new Webhook(secret).verify(body, headersWith(signature))
    expect(verifiesAsymmetric(parts[2] ?? '', publicKey)).toBe(true)
  })

  test('refuses halves that do not belong together', () => {
    const mixed = Buffer.concat([
      seed,
      generateKeyPairSync('ed25519').publicKey.export({ format: 'der', type: 'spki' }).subarray(-32),
    ])
    expect(() => createSigner([`whsk_${mixed.toString('base64')}`])).toThrow(SigningSecretError)
  })

  test('refuses a private key of another kind', () => {
    const other = generateKeyPairSync('x25519').privateKey.export({ format: 'der', type: 'pkcs8' })
    expect(() => createSigner([`whsk_${other.toString('base64')}`])).toThrow(SigningSecretError)
  })
})

test.each([
  '',
  'whsec_',
  'whsk_',
  'whsec_not base64!',
  'whpk_AAAA',
  `whsk_${Buffer.alloc(20, 1).toString('base64')}`,
  'plain-text-secret',
])('the secret %j is refused without being repeated', (secret) => {
  const made = () => createSigner([hmacSecret, secret])
  expect(made).toThrow(SigningSecretError)
  expect(made).toThrow(/^signing secret 2: (?!.*(plain-text|not base64!))/)
})
