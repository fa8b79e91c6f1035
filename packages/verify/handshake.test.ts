import { describe, expect, it } from 'vitest'
import {
  hmacOf,
  nowMs,
  nowSeconds,
  rejected,
  signEd25519,
  testUrl,
  verificationOf,
  verifyWith,
} from './test-schemes.ts'
import { compileVerifier } from './verifier.ts'

describe('handshakes', () => {
  it('meta: echoes only to the one who knows the verify token', () => {
    const settings = { scheme: 'meta', secret: 'app', verifyToken: 'tok' } as const
    const get = (query: string) => verifyWith(settings, { method: 'GET', url: `${testUrl}?${query}` })
    expect(get('hub.mode=subscribe&hub.verify_token=tok&hub.challenge=9')).toMatchObject({
      kind: 'handshake',
      response: { body: '9' },
    })
    for (const wrong of [
      'hub.mode=subscribe&hub.verify_token=app&hub.challenge=9',
      'hub.mode=subscribe&hub.challenge=9',
      'hub.mode=subscribe&hub.verify_token=x&hub.verify_token=tok&hub.challenge=9',
      'hub.mode=subscribe&hub.verify_token=tok',
    ])
      expect(get(wrong).kind, wrong).toBe('rejected')
    expect(
      verifyWith(
        { scheme: 'meta', secret: 'app' },
        { method: 'GET', url: `${testUrl}?hub.mode=subscribe&hub.verify_token=&hub.challenge=9` },
      ),
    ).toEqual(rejected('credential_mismatch'))
  })

  it('x-twitter: its challenge can’t be used to have an event signed', () => {
    const settings = { scheme: 'x-twitter', secret: 's' } as const
    const get = (token: string) =>
      verifyWith(settings, { method: 'GET', url: `${testUrl}?crc_token=${encodeURIComponent(token)}` })
    const verdict = get('abc=')
    if (verdict.kind !== 'handshake') throw new Error('expected a handshake')
    const { response_token: signature } = JSON.parse(verdict.response.body) as { response_token: string }
    expect(signature).toBe(`sha256=${hmacOf('abc=', 's', 'base64')}`)
    expect(verifyWith(settings, { headers: [['x-twitter-webhooks-signature', signature]], body: 'abc=' })).toEqual(
      rejected('body_malformed'),
    )
    expect(get('{"forged":true}')).toEqual(rejected('handshake_malformed'))
  })

  it('zoom: refuses tokens whose answer could be a signature, signed or not', () => {
    const send = (plainToken: string) => {
      const body = JSON.stringify({ event: 'endpoint.url_validation', payload: { plainToken } })
      return verifyWith(
        { scheme: 'zoom', secret: 's' },
        {
          headers: [
            ['x-zm-request-timestamp', nowSeconds],
            ['x-zm-signature', `v0=${hmacOf(`v0:${nowSeconds}:${body}`, 's')}`],
          ],
          body,
        },
      )
    }
    expect(send('abc')).toMatchObject({
      kind: 'handshake',
      response: { body: JSON.stringify({ plainToken: 'abc', encryptedToken: hmacOf('abc', 's') }) },
    })
    expect(send(`v0:${nowSeconds}:{}`)).toEqual(rejected('handshake_malformed'))
  })

  it('discord: an event of type 1 is no ping', () => {
    const verification = verificationOf('discord')
    const send = (body: string) =>
      compileVerifier(verification).verify(
        {
          method: 'POST',
          url: testUrl,
          headers: [
            ['X-Signature-Timestamp', nowSeconds],
            ['X-Signature-Ed25519', signEd25519(Buffer.from(nowSeconds + body)).toString('hex')],
          ],
          body: Buffer.from(body),
        },
        nowMs,
      )
    expect(send('{"type":1}').kind).toBe('handshake')
    expect(send('{"type":1,"event":{"type":"APPLICATION_AUTHORIZED"}}')).toMatchObject({
      kind: 'verified',
      type: 'APPLICATION_AUTHORIZED',
    })
  })

  it('microsoft-graph: repeats the decoded token as plain text and takes nothing in', () => {
    expect(
      verifyWith(
        { scheme: 'microsoft-graph', secret: 's' },
        { url: `${testUrl}?validationToken=Validation%3A+a%2Bb`, body: '{"value":[{"clientState":"s"}]}' },
      ),
    ).toMatchObject({ kind: 'handshake', response: { body: 'Validation: a+b' } })
    expect(
      verifyWith({ scheme: 'microsoft-graph', secret: 's' }, { url: `${testUrl}?validationToken=a&validationToken=b` }),
    ).toEqual(rejected('handshake_malformed'))
    expect(
      verifyWith(
        { scheme: 'microsoft-graph', secret: 's' },
        { url: `${testUrl}?validationToken=${'a'.repeat(2_000)}` },
      ),
    ).toEqual(rejected('handshake_malformed'))
  })

  it('say which methods they need beyond the source’s own', () => {
    expect(compileVerifier(verificationOf('meta')).handshakeMethods).toEqual(['GET'])
    expect(compileVerifier(verificationOf('trello')).handshakeMethods).toEqual(['HEAD'])
    expect(compileVerifier(verificationOf('stripe')).handshakeMethods).toEqual([])
  })

  it('xero: both answers to its intent to receive have empty bodies', () => {
    const { acceptance, refusal } = compileVerifier(verificationOf('xero'))
    expect(acceptance).toMatchObject({ status: 200, body: '' })
    expect(refusal).toMatchObject({ status: 401, body: '' })
  })
})
