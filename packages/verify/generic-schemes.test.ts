import { verificationSchema } from '@tenterhook/schemas/verification'
import { describe, expect, it } from 'vitest'
import {
  ed25519Public,
  hmacOf,
  nowMs,
  nowSeconds,
  rejected,
  signEd25519,
  signP256,
  testUrl,
  verificationOf,
  verifyWith,
} from './test-schemes.ts'
import { compileVerifier } from './verifier.ts'

describe('hmac of one’s own', () => {
  const settings = {
    scheme: 'hmac',
    secret: 'k',
    header: 'X-Sig',
    algorithm: 'sha512',
    encoding: 'base64',
    prefix: 'sig:',
    signed: '{id}|{timestamp}|{method} {url}|{body}',
    timestamp: { header: 'X-Time', format: 'milliseconds', tolerance: '1m' },
    idHeader: 'X-Id',
    dedupe: { header: 'X-Id' },
    type: { path: 'kind.name' },
  } as const
  const body = '{"kind":{"name":"made"}}'
  const send = (t: number, id = 'i1') =>
    verifyWith(settings, {
      method: 'PUT',
      headers: [
        ['X-Sig', `sig:${hmacOf(`${id}|${t}|PUT ${testUrl}|${body}`, 'k', 'base64', 'sha512')}`],
        ['X-Time', String(t)],
        ['X-Id', id],
      ],
      body,
    })

  it('checks algorithm, encoding, prefix, template, timestamp and id as set', () => {
    expect(send(nowMs)).toEqual({ kind: 'verified', dedupeKey: 'i1', type: 'made' })
    expect(send(nowMs - 60_000).kind).toBe('verified')
    expect(send(nowMs - 60_001)).toEqual(rejected('timestamp_stale'))
    expect(send(nowMs + 60_001)).toEqual(rejected('timestamp_future'))
    expect(send(nowMs, 'a|b')).toEqual(rejected('id_malformed'))
  })

  it('never expands what the body holds', () => {
    for (const tricky of ['$& $$ $1 $`', '{timestamp}{body}', '%s'])
      expect(
        verifyWith(
          { scheme: 'hmac', secret: 'k', header: 'X-Sig' },
          { headers: [['X-Sig', hmacOf(tricky, 'k')]], body: tricky },
        ).kind,
      ).toBe('verified')
    expect(
      verifyWith(
        { scheme: 'hmac', secret: 'k', header: 'X-Sig' },
        { headers: [['X-Sig', hmacOf('$', 'k')]], body: '$$' },
      ).kind,
    ).toBe('rejected')
  })

  it('takes upper-case hex, but neither spaces nor other bases', () => {
    const send2 = (signature: string) =>
      verifyWith({ scheme: 'hmac', secret: 'k', header: 'X-Sig' }, { headers: [['X-Sig', signature]], body: 'b' }).kind
    expect(send2(hmacOf('b', 'k').toUpperCase())).toBe('verified')
    for (const wrong of [
      ` ${hmacOf('b', 'k')}`,
      `${hmacOf('b', 'k')} `,
      hmacOf('b', 'k', 'base64'),
      `${hmacOf('b', 'k')}, ${hmacOf('b', 'k')}`,
      `0x${hmacOf('b', 'k')}`,
    ])
      expect(send2(wrong)).toBe('rejected')
  })
})

describe('public keys', () => {
  const body = '{"id":"1"}'
  const settings = {
    scheme: 'ed25519',
    secret: ed25519Public,
    header: 'X-Sig',
    encoding: 'base64',
    signed: '{timestamp}.{body}',
    timestamp: { header: 'X-Time' },
  } as const
  const signature = signEd25519(Buffer.from(`${nowSeconds}.${body}`)).toString('base64')
  const send = (sig: string, content = body) =>
    verifyWith(settings, {
      headers: [
        ['X-Sig', sig],
        ['X-Time', nowSeconds],
      ],
      body: content,
    })

  it('verify ed25519 over the template as set', () => {
    expect(send(signature).kind).toBe('verified')
    expect(send(signature, '{"id":"2"}')).toEqual(rejected('signature_mismatch'))
  })

  it('want exactly one spelling of a signature', () => {
    for (const wrong of [
      `${signature}=`,
      signature.replace('==', ''),
      `${signature}!!`,
      ` ${signature}`,
      Buffer.from(signature, 'base64').toString('hex'),
      signature.slice(0, -4),
      '',
    ])
      expect(send(wrong).kind, wrong).toBe('rejected')
  })

  it('verify SendGrid’s P-256 batches, which have no one type when they are mixed', () => {
    const scheme = verificationOf('sendgrid')
    const check = (content: string, signed = content) =>
      compileVerifier(scheme).verify(
        {
          method: 'POST',
          url: testUrl,
          headers: [
            ['X-Twilio-Email-Event-Webhook-Timestamp', nowSeconds],
            ['X-Twilio-Email-Event-Webhook-Signature', signP256(Buffer.from(nowSeconds + signed)).toString('base64')],
          ],
          body: Buffer.from(content),
        },
        nowMs,
      )
    expect(check('[{"sg_event_id":"a","event":"open"},{"sg_event_id":"b","event":"open"}]')).toEqual({
      kind: 'verified',
      dedupeKey: 'a,b',
      type: 'open',
    })
    expect(check('[{"sg_event_id":"a","event":"open"},{"sg_event_id":"b","event":"click"}]')).toEqual({
      kind: 'verified',
      dedupeKey: 'a,b',
    })
    expect(check('[{"sg_event_id":"a","event":"open"},{"event":"open"}]')).toEqual({ kind: 'verified', type: 'open' })
    expect(check('[]', '[ ]')).toEqual(rejected('signature_mismatch'))
  })
})

describe('repeated secrets', () => {
  const basic = (pair: string) => `Basic ${Buffer.from(pair).toString('base64')}`

  it('basic: compares user and password whole, colons and all', () => {
    const send = (value: string) =>
      verifyWith({ scheme: 'basic', secret: 'user:p:w' }, { headers: [['Authorization', value]] })
    expect(send(basic('user:p:w')).kind).toBe('verified')
    expect(send(basic('user:p:w').replace('Basic', 'bAsIc')).kind).toBe('verified')
    for (const wrong of [
      basic('user:p'),
      basic('user:'),
      basic('user:p:w:'),
      `${basic('user:p:w')}!`,
      'Basic',
      'Basic ',
      'user:p:w',
      `Bearer ${Buffer.from('user:p:w').toString('base64')}`,
    ])
      expect(send(wrong).kind, wrong).toBe('rejected')
  })

  it('bearer and api-key: compare the token and name the header to be redacted', () => {
    expect(verifyWith({ scheme: 'bearer', secret: 'tok' }, { headers: [['authorization', 'Bearer tok']] }).kind).toBe(
      'verified',
    )
    for (const wrong of ['tok', 'Bearer', 'Bearer  ', 'Bearer toks', 'Basic tok'])
      expect(verifyWith({ scheme: 'bearer', secret: 'tok' }, { headers: [['authorization', wrong]] }).kind).toBe(
        'rejected',
      )
    expect(
      verifyWith({ scheme: 'api-key', secret: 'tok', header: 'X-Mine' }, { headers: [['x-mine', 'tok']] }).kind,
    ).toBe('verified')
    expect(
      compileVerifier(verificationSchema.parse({ scheme: 'api-key', secret: 'tok', header: 'X-Mine' })).credentials,
    ).toEqual({ headers: ['x-mine'], query: [] })
    expect(compileVerifier(verificationOf('bearer')).credentials.headers).toEqual(['authorization'])
    expect(compileVerifier(verificationOf('query')).credentials.query).toEqual(['secret'])
  })

  it('query: the parameter must stand once', () => {
    const send = (query: string) =>
      verifyWith({ scheme: 'query', secret: 'ä b', parameter: 'k' }, { url: `${testUrl}?${query}` })
    expect(send('k=%C3%A4+b').kind).toBe('verified')
    expect(send('k=x&k=%C3%A4+b')).toEqual(rejected('credential_malformed'))
    expect(send('K=%C3%A4+b')).toEqual(rejected('credential_missing'))
    expect(send('x=1#?k=%C3%A4+b')).toEqual(rejected('credential_missing'))
  })

  it('microsoft-graph: every item must carry it', () => {
    const send = (body: string) => verifyWith({ scheme: 'microsoft-graph', secret: 's' }, { body }).kind
    expect(send('{"value":[{"clientState":"s"},{"clientState":"s"}]}')).toBe('verified')
    for (const wrong of [
      '{"value":[{"clientState":"s"},{}]}',
      '{"value":[]}',
      '{"value":{"clientState":"s"}}',
      '{}',
      '',
      '{"value":[{"clientState":["s"]}]}',
    ])
      expect(send(wrong), wrong).toBe('rejected')
  })

  it('mailchimp: a GET probe is answered only with the secret', () => {
    expect(
      verifyWith({ scheme: 'mailchimp', secret: 's' }, { method: 'GET', url: `${testUrl}?secret=s` }),
    ).toMatchObject({
      kind: 'handshake',
      response: { status: 200 },
    })
    expect(verifyWith({ scheme: 'mailchimp', secret: 's' }, { method: 'GET' }).kind).toBe('rejected')
  })
})
