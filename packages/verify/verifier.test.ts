import type { HeaderPairs } from '@tenterhook/schemas/headers'
import { verificationSchema } from '@tenterhook/schemas/verification'
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import {
  ed25519Public,
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

describe('stripe', () => {
  const body = '{"id":"evt_1","type":"invoice.paid"}'
  const signature = (t: string, secret = 's') => `t=${t},v1=${hmacOf(`${t}.${body}`, secret)}`

  it('takes its dedupe key and type from the signed body', () => {
    expect(
      verifyWith({ scheme: 'stripe', secret: 's' }, { headers: [['stripe-signature', signature(nowSeconds)]], body }),
    ).toEqual({ kind: 'verified', dedupeKey: 'evt_1', type: 'invoice.paid' })
  })

  it('has a settable tolerance', () => {
    const old = String(nowMs / 1_000 - 900)
    expect(
      verifyWith({ scheme: 'stripe', secret: 's' }, { headers: [['Stripe-Signature', signature(old)]], body }),
    ).toEqual(rejected('timestamp_stale'))
    expect(
      verifyWith(
        { scheme: 'stripe', secret: 's', tolerance: '15m' },
        { headers: [['Stripe-Signature', signature(old)]], body },
      ).kind,
    ).toBe('verified')
  })

  it('says stale only of a timestamp that the sender signed', () => {
    expect(
      verifyWith(
        { scheme: 'stripe', secret: 's' },
        { headers: [['Stripe-Signature', signature('1000000000', 'forged')]], body },
      ),
    ).toEqual(rejected('signature_mismatch'))
  })

  it('refuses timestamps that are not exactly a number', () => {
    for (const t of [
      `0${nowSeconds}`,
      `+${nowSeconds}`,
      `${nowSeconds}.0`,
      `${nowSeconds}e0`,
      '0x68e0',
      `-${nowSeconds}`,
      '99999999999999999999',
    ])
      expect(
        verifyWith({ scheme: 'stripe', secret: 's' }, { headers: [['Stripe-Signature', signature(t)]], body }),
        t,
      ).toEqual(rejected('timestamp_malformed'))
  })

  it('tells a signature that was cut or lengthened from one that is wrong', () => {
    const send = (v1: string) =>
      verifyWith(
        { scheme: 'stripe', secret: 's' },
        { headers: [['Stripe-Signature', `t=${nowSeconds},v1=${v1}`]], body },
      )
    expect(send(hmacOf('other', 's'))).toEqual(rejected('signature_mismatch'))
    for (const wrong of [hmacOf('other', 's').slice(2), `${hmacOf('other', 's')}00`, ''])
      expect(send(wrong)).toEqual(rejected('signature_malformed'))
  })

  it('refuses headers with more items than a rotation needs', () => {
    const header = `t=${nowSeconds}${`,v1=${'0'.repeat(64)}`.repeat(40)},v1=${hmacOf(`${nowSeconds}.${body}`, 's')}`
    expect(verifyWith({ scheme: 'stripe', secret: 's' }, { headers: [['Stripe-Signature', header]], body })).toEqual(
      rejected('signature_malformed'),
    )
  })
})

describe('slack', () => {
  const send = (body: string, type = 'application/json') =>
    verifyWith(
      { scheme: 'slack', secret: 's' },
      {
        headers: [
          ['Content-Type', type],
          ['X-Slack-Request-Timestamp', nowSeconds],
          ['X-Slack-Signature', `v0=${hmacOf(`v0:${nowSeconds}:${body}`, 's')}`],
        ],
        body,
      },
    )

  it('answers a signed challenge with the challenge, as text no browser renders', () => {
    expect(send('{"type":"url_verification","challenge":"<b>x</b>"}')).toEqual({
      kind: 'handshake',
      response: {
        status: 200,
        headers: [
          ['content-type', 'text/plain; charset=utf-8'],
          ['x-content-type-options', 'nosniff'],
        ],
        body: '<b>x</b>',
      },
    })
  })

  it('answers no unsigned challenge', () => {
    expect(
      verifyWith({ scheme: 'slack', secret: 's' }, { body: '{"type":"url_verification","challenge":"x"}' }),
    ).toEqual(rejected('signature_missing'))
  })

  it('names events, commands and interactions', () => {
    expect(send('{"type":"event_callback","event_id":"Ev1","event":{"type":"message"}}')).toEqual({
      kind: 'verified',
      dedupeKey: 'Ev1',
      type: 'message',
    })
    const form = 'application/x-www-form-urlencoded'
    expect(send('command=%2Fweather&trigger_id=13.8', form)).toEqual({
      kind: 'verified',
      dedupeKey: '13.8',
      type: '/weather',
    })
    expect(send(`payload=${encodeURIComponent('{"type":"block_actions","trigger_id":"9.1"}')}`, form)).toEqual({
      kind: 'verified',
      dedupeKey: '9.1',
      type: 'block_actions',
    })
  })
})

describe('standard webhooks', () => {
  const body = '{"type":"a"}'
  const secret = `whsec_${Buffer.from('0123456789abcdef').toString('base64')}`
  const sign = (id: string, t = nowSeconds, content = body) =>
    `v1,${hmacOf(`${id}.${t}.${content}`, '0123456789abcdef', 'base64')}`
  const family = (name: string, id: string, signature = sign(id)): HeaderPairs => [
    [`${name}-id`, id],
    [`${name}-timestamp`, nowSeconds],
    [`${name}-signature`, signature],
  ]

  it('takes a complete set of either family from svix, never a mix of both', () => {
    expect(verifyWith({ scheme: 'svix', secret }, { headers: family('svix', 'a'), body })).toMatchObject({
      kind: 'verified',
      dedupeKey: 'a',
    })
    expect(verifyWith({ scheme: 'svix', secret }, { headers: family('webhook', 'a'), body })).toMatchObject({
      kind: 'verified',
      dedupeKey: 'a',
    })
    const mixed: HeaderPairs = [
      ['svix-id', 'a'],
      ['webhook-timestamp', nowSeconds],
      ['svix-signature', sign('a')],
    ]
    expect(verifyWith({ scheme: 'svix', secret }, { headers: mixed, body }).kind).toBe('rejected')
    expect(verifyWith({ scheme: 'standard-webhooks', secret }, { headers: family('svix', 'a'), body })).toEqual(
      rejected('signature_missing'),
    )
  })

  it('takes the dedupe key from the set that was verified', () => {
    const unsignedOther: HeaderPairs = [
      ['webhook-id', 'b'],
      ['webhook-timestamp', nowSeconds],
      ['webhook-signature', 'v1,AAAA'],
    ]
    expect(
      verifyWith({ scheme: 'svix', secret }, { headers: [...unsignedOther, ...family('svix', 'a')], body }),
    ).toMatchObject({ kind: 'verified', dedupeKey: 'a' })
  })

  it('refuses an id that could be cut elsewhere', () => {
    // id a, body 1760000000.{…} and id a.1760000000, body {…} are the same signed bytes.
    const shifted = `${nowSeconds}.${body}`
    const signature = sign('a', nowSeconds, shifted)
    expect(
      verifyWith({ scheme: 'standard-webhooks', secret }, { headers: family('webhook', 'a', signature), body: shifted })
        .kind,
    ).toBe('verified')
    expect(
      verifyWith(
        { scheme: 'standard-webhooks', secret },
        { headers: family('webhook', `a.${nowSeconds}`, signature), body },
      ),
    ).toEqual(rejected('id_malformed'))
  })

  it('checks v1 and v1a of one list, each with its own kind of key', () => {
    const v1a = `v1a,${signEd25519(Buffer.from(`a.${nowSeconds}.${body}`)).toString('base64')}`
    const whpk = `whpk_${Buffer.from(ed25519Public, 'hex').toString('base64')}`
    for (const signature of [v1a, `${sign('a')} ${v1a}`, `v2,x ${v1a}`])
      expect(
        verifyWith({ scheme: 'standard-webhooks', secret: whpk }, { headers: family('webhook', 'a', signature), body })
          .kind,
      ).toBe('verified')
    expect(
      verifyWith({ scheme: 'standard-webhooks', secrets: [whpk, secret] }, { headers: family('webhook', 'a'), body })
        .kind,
    ).toBe('verified')
    expect(
      verifyWith(
        { scheme: 'standard-webhooks', secret: whpk },
        { headers: family('webhook', 'a', v1a.replace('v1a', 'v1')), body },
      ),
    ).toEqual(rejected('signature_malformed'))
    expect(verifyWith({ scheme: 'standard-webhooks', secret }, { headers: family('webhook', 'a', v1a), body })).toEqual(
      rejected('signature_malformed'),
    )
  })
})

describe('gitlab', () => {
  it('compares the token, and names it as a credential', () => {
    const verifier = compileVerifier(verificationSchema.parse({ scheme: 'gitlab', secrets: ['new', 'old'] }))
    const send = (headers: HeaderPairs) =>
      verifier.verify({ method: 'POST', url: testUrl, headers, body: Buffer.from('{"object_kind":"push"}') }, nowMs)
    expect(
      send([
        ['X-Gitlab-Token', 'old'],
        ['Idempotency-Key', 'k1'],
        ['X-Gitlab-Event', 'Push Hook'],
      ]),
    ).toEqual({ kind: 'verified', dedupeKey: 'k1', type: 'push' })
    expect(send([['X-Gitlab-Token', 'ol']])).toEqual(rejected('credential_mismatch'))
    expect(send([])).toEqual(rejected('credential_missing'))
    expect(
      send([
        ['X-Gitlab-Token', 'old'],
        ['x-gitlab-token', 'old'],
      ]),
    ).toEqual(rejected('credential_malformed'))
    expect(verifier.credentials).toEqual({ headers: ['x-gitlab-token'], query: [] })
  })

  it('keeps a token that is sent along with a signature from being stored', () => {
    expect(compileVerifier(verificationOf('gitlab-signing')).credentials.headers).toEqual(['x-gitlab-token'])
  })
})

describe('no verification', () => {
  it('verifies anything and finds what it was told to look for', () => {
    expect(verifyWith({ scheme: 'none' }, {})).toEqual({ kind: 'verified' })
    expect(
      verifyWith(
        { scheme: 'none', dedupe: { path: 'id' }, type: { header: 'X-Type' } },
        { headers: [['x-type', 'a']], body: '{"id":7}' },
      ),
    ).toEqual({ kind: 'verified', dedupeKey: '7', type: 'a' })
  })
})

describe('other rows', () => {
  it('stream-chat: verifies what gzip holds, and bounds it', () => {
    const body = '{"type":"message.new"}'
    const headers = (content: string): HeaderPairs => [
      ['X-Signature', hmacOf(content, 's')],
      ['Content-Encoding', 'gzip'],
      ['X-Webhook-Id', 'w1'],
    ]
    expect(
      verifyWith({ scheme: 'stream-chat', secret: 's' }, { headers: headers(body), body: gzipSync(body) }),
    ).toEqual({
      kind: 'verified',
      dedupeKey: 'w1',
      type: 'message.new',
    })
    expect(
      verifyWith({ scheme: 'stream-chat', secret: 's' }, { headers: headers(body), body: gzipSync(`${body} `) }),
    ).toEqual(rejected('signature_mismatch'))
    expect(verifyWith({ scheme: 'stream-chat', secret: 's' }, { headers: headers(body), body })).toEqual(
      rejected('body_malformed'),
    )
    const bomb = Buffer.alloc(9_000_000, 'a')
    expect(
      verifyWith({ scheme: 'stream-chat', secret: 's' }, { headers: headers(bomb.toString()), body: gzipSync(bomb) }),
    ).toEqual(rejected('body_malformed'))
  })

  it('woocommerce: two events of one second differ by their bodies', () => {
    const key = (body: string) =>
      verifyWith(
        { scheme: 'woocommerce', secret: 's' },
        {
          headers: [
            ['X-WC-Webhook-Signature', hmacOf(body, 's', 'base64')],
            ['X-WC-Webhook-Delivery-ID', 'd'],
          ],
          body,
        },
      )
    expect(key('{"id":1}')).not.toEqual(key('{"id":2}'))
  })

  it('linear: dates by its signed body, not by a header', () => {
    const send = (webhookTimestamp: unknown) => {
      const body = JSON.stringify({ type: 'Issue', action: 'create', webhookTimestamp })
      return verifyWith(
        { scheme: 'linear', secret: 's' },
        {
          headers: [
            ['Linear-Signature', hmacOf(body, 's')],
            ['Linear-Timestamp', String(nowMs)],
          ],
          body,
        },
      )
    }
    expect(send(nowMs)).toMatchObject({ kind: 'verified', type: 'Issue.create' })
    expect(send(nowMs - 60_001)).toEqual(rejected('timestamp_stale'))
    for (const wrong of [null, true, [nowMs], '', nowMs + 0.5, 1e300])
      expect(send(wrong), String(wrong)).toEqual(rejected('timestamp_missing'))
  })

  it('docusign: any of a hundred numbered headers may match, none of them twice', () => {
    const good = hmacOf('b', 's', 'base64')
    const bad = hmacOf('b', 'x', 'base64')
    const send = (headers: HeaderPairs) => verifyWith({ scheme: 'docusign', secret: 's' }, { headers, body: 'b' }).kind
    expect(
      send([
        ['X-DocuSign-Signature-1', bad],
        ['X-DocuSign-Signature-100', good],
      ]),
    ).toBe('verified')
    expect(send([['X-DocuSign-Signature-101', good]])).toBe('rejected')
    expect(
      send([
        ['X-DocuSign-Signature-1', bad],
        ['X-DocuSign-Signature-1', good],
      ]),
    ).toBe('rejected')
    expect(
      send([
        ['X-DocuSign-Signature-2', good],
        ['X-DocuSign-Signature-1', good],
        ['X-DocuSign-Signature-1', good],
      ]),
    ).toBe('rejected')
  })
})
