import { Webhook } from 'standardwebhooks'
import { describe, expect, it } from 'vitest'
import { standardSchemes } from '@tenterhook/schemas/verification'
import { samples } from './samples.ts'
import { signRequest } from './sign.ts'
import { allSchemes, nowMs, unsigned, verificationOf } from './test-schemes.ts'
import { compileVerifier } from './verifier.ts'

function signed(scheme: (typeof allSchemes)[number], ...seeds: string[]) {
  const result = signRequest(verificationOf(scheme, ...seeds), unsigned(scheme))
  if (result.kind === 'unsignable') throw new Error(`${scheme} is unsignable`)
  return { method: 'POST', ...result }
}

const unsignable = allSchemes.filter(
  (scheme) => signRequest(verificationOf(scheme), unsigned(scheme)).kind === 'unsignable',
)
const signable = allSchemes.filter((scheme) => !unsignable.includes(scheme))

describe('signing', () => {
  it('can’t be done only where the provider keeps a private key', () => {
    expect(unsignable).toEqual(['discord', 'ed25519', 'sendgrid', 'telnyx'])
  })

  it.each(signable)('%s: what is signed verifies', (scheme) => {
    expect(compileVerifier(verificationOf(scheme)).verify(signed(scheme), nowMs)).toMatchObject({ kind: 'verified' })
  })

  it.each(signable.filter((scheme) => scheme !== 'none'))(
    '%s: another secret refuses it, and either of two accepts it',
    (scheme) => {
      expect(compileVerifier(verificationOf(scheme, 'other')).verify(signed(scheme), nowMs).kind).toBe('rejected')
      expect(compileVerifier(verificationOf(scheme, 'other', 'one')).verify(signed(scheme), nowMs).kind).toBe(
        'verified',
      )
      expect(compileVerifier(verificationOf(scheme, 'other', 'third')).verify(signed(scheme), nowMs).kind).toBe(
        'rejected',
      )
    },
  )

  it('signs with the first secret, which is the current one', () => {
    expect(signed('stripe', 'new', 'old').headers).toEqual(signed('stripe', 'new').headers)
  })

  it.each(standardSchemes)('%s: agrees with the reference library of Standard Webhooks', (scheme) => {
    const verification = verificationOf(scheme)
    const { headers, body } = signed(scheme)
    if (verification.scheme === 'none') throw new Error('unreachable')
    const values = new Map(headers.map(([name, value]) => [name.toLowerCase().replace(/^svix-/, 'webhook-'), value]))
    const reference = new Webhook(verification.secrets[0] ?? '').sign('id_1', new Date(nowMs), body.toString('utf8'))
    expect(values.get('webhook-signature')).toBe(reference)
    expect(values.get('webhook-id')).toBe('id_1')
    expect(values.get('webhook-timestamp')).toBe(String(nowMs / 1_000))
  })

  it('puts Twilio’s body hash into the URL of a JSON request and leaves a form’s URL alone', () => {
    expect(signed('twilio').url).toMatch(/\?tenant=a1&bodySHA256=[0-9a-f]{64}$/)
    const form = signRequest(verificationOf('twilio'), {
      ...unsigned('twilio'),
      ...samples['twilio.message']?.({ id: '1', nowMs }),
    })
    expect(form).toMatchObject({ kind: 'signed', url: unsigned('twilio').url })
  })
})

describe('samples', () => {
  const cases = [
    ['stripe.payment_intent.succeeded', 'stripe', 'payment_intent.succeeded', 'evt_7'],
    ['stripe.charge.failed', 'stripe', 'charge.failed', 'evt_7'],
    ['stripe.customer.created', 'stripe', 'customer.created', 'evt_7'],
    ['github.push', 'github', 'push', '7'],
    ['github.ping', 'github', 'ping', '7'],
    ['github.pull_request', 'github', 'pull_request', '7'],
    ['shopify.orders/create', 'shopify', 'orders/create', '7'],
    ['shopify.inventory_levels/update', 'shopify', 'inventory_levels/update', '7'],
    ['slack.message', 'slack', 'message', 'Ev7'],
    ['gitlab.push', 'gitlab', 'push', '7'],
    ['twilio.message', 'twilio', 'message.received', '7'],
    ['standard.contact.created', 'standard-webhooks', 'contact.created', 'id_1'],
  ] as const

  it.each(cases)('%s, signed for %s, is of type %s and has the dedupe key %s', (name, scheme, type, dedupeKey) => {
    const sample = samples[name]?.({ id: '7', nowMs })
    if (!sample) throw new Error(`no sample ${name}`)
    const verification = verificationOf(scheme)
    const result = signRequest(verification, {
      method: 'POST',
      url: 'https://gw.example.com/in/x',
      nowMs,
      id: 'id_1',
      ...sample,
    })
    if (result.kind === 'unsignable') throw new Error('unreachable')
    expect(compileVerifier(verification).verify({ method: 'POST', ...result }, nowMs)).toEqual({
      kind: 'verified',
      type,
      dedupeKey,
    })
  })

  it('answers Slack’s challenge sample as a handshake', () => {
    const verification = verificationOf('slack')
    const sample = samples['slack.url_verification']?.({ id: 'ch', nowMs })
    if (!sample) throw new Error('no sample')
    const result = signRequest(verification, {
      method: 'POST',
      url: 'https://gw.example.com/in/x',
      nowMs,
      id: '',
      ...sample,
    })
    if (result.kind === 'unsignable') throw new Error('unreachable')
    expect(compileVerifier(verification).verify({ method: 'POST', ...result }, nowMs)).toMatchObject({
      kind: 'handshake',
      response: { status: 200, body: 'ch' },
    })
  })

  it.each(Object.keys(samples))('%s is another event with another id, in the format it names', (name) => {
    const build = samples[name]
    const one = build?.({ id: 'a', nowMs })
    expect(one?.body.equals(build?.({ id: 'a', nowMs }).body ?? Buffer.alloc(0))).toBe(true)
    const other = build?.({ id: 'b', nowMs })
    expect(JSON.stringify(other)).not.toBe(JSON.stringify(one))
    const contentType = one?.headers.find(([header]) => header === 'Content-Type')?.[1] ?? ''
    const text = one?.body.toString('utf8') ?? ''
    if (contentType.startsWith('application/json')) expect(() => JSON.parse(text)).not.toThrow()
    else if (contentType.startsWith('application/xml')) expect(text).toMatch(/^<\?xml/)
    else expect(new URLSearchParams(text).size).toBeGreaterThan(2)
  })
})
