import { describe, expect, test } from 'vitest'
import { newId } from '@tenterhook/schemas/ids'
import { sourceSpec, type SourceInput } from '@tenterhook/schemas/source'
import { verificationSchema, type VerificationInput } from '@tenterhook/schemas/verification'
import type { Source } from '@tenterhook/store/config'
import { compileVerifier } from '@tenterhook/verify/verifier'
import { buildSample, chooseSource, otherSecret, sampleLines, signSample, type Wanted } from './trigger-request.ts'

const nowMs = Date.parse('2026-01-31T09:30:00Z')
const origin = 'https://hooks.example'

function source(name: string, verification: VerificationInput, more: Partial<SourceInput> = {}): Source {
  const spec = sourceSpec.parse({ name, verification, ...more })
  return { id: newId('src', nowMs), version: 1, managedBy: 'test', spec }
}

const want = (name: string, more: Partial<Wanted> = {}): Wanted => ({
  name,
  forgery: 'none',
  data: undefined,
  headers: [],
  ...more,
})
const sample = (name: string, more?: Partial<Wanted>) => buildSample(want(name, more), 'id1', nowMs)
const json = (body: Buffer): unknown => JSON.parse(body.toString())

describe('the source', () => {
  const stripe = source('payments', { scheme: 'stripe', secret: 's' })
  const desk = source('desk', { scheme: 'hmac', secret: 's', header: 'X-Sig' })
  const called = source('stripe', { scheme: 'bearer', secret: 's' })

  test('is the one named, else the one called like the provider, else the only one that verifies as it', () => {
    expect(chooseSource([stripe, called, desk], 'stripe.charge.failed', 'desk')).toBe(desk)
    expect(chooseSource([stripe, called, desk], 'stripe.charge.failed', undefined)).toBe(called)
    expect(chooseSource([stripe, desk], 'stripe.charge.failed', undefined)).toBe(stripe)
    const standard = source('app', {
      scheme: 'standard-webhooks',
      secret: `whsec_${Buffer.alloc(24).toString('base64')}`,
    })
    expect(chooseSource([standard], 'standard.contact.created', undefined)).toBe(standard)
  })

  test('that can’t be told is asked for', () => {
    expect(() => chooseSource([stripe, desk], 'x.y', 'dsk')).toThrow('there is no source "dsk"; did you mean "desk"?')
    expect(() => chooseSource([stripe, desk], 'erp.order', undefined)).toThrow(
      'no source is called erp or verifies as erp; there are payments, desk; choose one with --source',
    )
    expect(() => chooseSource([], 'erp.order', undefined)).toThrow('there is none')
    const other = source('payments2', { scheme: 'stripe', secret: 's' })
    expect(() => chooseSource([stripe, other], 'stripe.x', undefined)).toThrow(
      'several sources verify as stripe: payments, payments2; choose one with --source',
    )
  })
})

describe('the body', () => {
  test('is the sample’s, the data merged in at any depth', () => {
    const data = { kind: 'merged', fields: { livemode: true, data: { object: { amount: 1 } } } } as const
    const { body } = sample('stripe.payment_intent.succeeded', { data })
    expect(json(body)).toMatchObject({
      livemode: true,
      type: 'payment_intent.succeeded',
      data: { object: { amount: 1, currency: 'eur' } },
    })
  })

  test('of a form takes fields too', () => {
    const { body, headers } = sample('forms.contact', { data: { kind: 'merged', fields: { email: 'a&b@c.d', n: 1 } } })
    const form = new URLSearchParams(body.toString())
    expect([form.get('email'), form.get('n'), form.get('form')]).toEqual(['a&b@c.d', '1', 'contact'])
    expect(headers).toContainEqual(['Content-Type', 'application/x-www-form-urlencoded'])
  })

  test('given whole is sent byte for byte, for a type without a sample too', () => {
    const body = Buffer.from([0, 255, 10])
    expect(sample('github.push', { data: { kind: 'exact', body } }).body).toEqual(body)
    expect(sample('own.thing', { data: { kind: 'exact', body } })).toEqual({
      headers: [['Content-Type', 'text/plain']],
      body,
    })
    const fields = { a: 1 }
    expect(sample('own.thing', { data: { kind: 'merged', fields } })).toEqual({
      headers: [['Content-Type', 'application/json']],
      body: Buffer.from('{"a":1}'),
    })
  })

  test('of another form can’t be merged into', () => {
    expect(() => sample('erp.order.shipped', { data: { kind: 'merged', fields: {} } })).toThrow('application/xml')
  })

  test('without a sample or data is refused, with what is there', () => {
    expect(() => sample('stripe.charge.faild')).toThrow(
      'there is no sample "stripe.charge.faild"; did you mean "stripe.charge.failed"?',
    )
    expect(() => sample('desk.nothing')).toThrow('; there is desk.ticket.created, desk.ticket.created.high')
    expect(() => sample('nothing.at.all')).toThrow('`trigger --help` lists them')
    expect(() => sample('toString')).toThrow('there is no sample')
  })

  test('headers are added, and take the place of the sample’s of the same name', () => {
    const { headers } = sample('github.push', {
      headers: [
        ['x-github-event', 'release'],
        ['X-A', 'b'],
      ],
    })
    expect(headers.filter(([name]) => /github-event/i.test(name))).toEqual([['x-github-event', 'release']])
    expect(headers).toContainEqual(['X-A', 'b'])
  })
})

describe('the request', () => {
  const key = Buffer.alloc(24, 7).toString('base64')
  const schemes: [string, VerificationInput, boolean][] = [
    ['stripe.charge.failed', { scheme: 'stripe', secret: 'whsec_demo_4f1c8a27' }, true],
    ['stripe.charge.failed', { scheme: 'stripe', secret: 'whsec_demo_4f1c8a27', tolerance: '2h' }, true],
    ['github.push', { scheme: 'github', secret: 'demo' }, false],
    ['shopify.orders/create', { scheme: 'shopify', secret: '$$!!' }, false],
    ['slack.message', { scheme: 'slack', secret: 'a' }, true],
    ['gitlab.push', { scheme: 'gitlab', secret: 'token' }, false],
    ['twilio.message', { scheme: 'twilio', secret: 'token' }, false],
    ['standard.contact.created', { scheme: 'standard-webhooks', secret: `whsec_${key}` }, true],
    ['forms.contact', { scheme: 'basic', secret: 'user:password' }, false],
    ['forms.contact', { scheme: 'query', secret: 's3' }, false],
    [
      'desk.ticket.created',
      { scheme: 'hmac', header: 'X-S', secret: Buffer.alloc(16, 1).toString('hex'), key: 'hex' },
      false,
    ],
    ['desk.ticket.created', { scheme: 'hmac', header: 'X-S', secret: key, key: 'base64' }, false],
    ['crm.lead.scored', { scheme: 'bearer', secret: 'aAzZ09' }, false],
  ]
  const sign = (name: string, verification: VerificationInput, forgery: Wanted['forgery']) =>
    signSample(source('any', verification), sample(name), { origin, forgery, id: 'id1', nowMs })
  const verify = (verification: VerificationInput, request: ReturnType<typeof sign>) =>
    compileVerifier(verificationSchema.parse(verification)).verify(request, nowMs)

  test.each(schemes)('%s is what %j verifies, and forged is what it refuses', (name, verification, dated) => {
    expect(verify(verification, sign(name, verification, 'none'))).toMatchObject({ kind: 'verified' })
    const forged = verify(verification, sign(name, verification, 'bad-signature'))
    expect(forged).toMatchObject({ kind: 'rejected', code: expect.stringMatching(/mismatch$/) })
    if (dated) {
      expect(verify(verification, sign(name, verification, 'stale'))).toMatchObject({ code: 'timestamp_stale' })
    } else {
      expect(() => sign(name, verification, 'stale')).toThrow('has no timestamp that could be stale')
    }
  })

  test('goes to the source by its first method with a body', () => {
    const put = source('put-only', { scheme: 'none' }, { methods: ['GET', 'PUT'] })
    const options = { origin, forgery: 'none', id: 'id1', nowMs } as const
    expect(signSample(put, sample('github.push'), options)).toMatchObject({
      method: 'PUT',
      url: `${origin}/in/put-only`,
    })
    const get = source('get-only', { scheme: 'none' }, { methods: ['GET'] })
    expect(() => signSample(get, sample('github.push'), options)).toThrow('takes only GET')
  })

  test('where nothing is proven can’t be forged, and where only the provider can sign not be signed', () => {
    expect(() => sign('github.push', { scheme: 'none' }, 'bad-signature')).toThrow('verifies nothing')
    const publicKey = '11'.repeat(32)
    expect(() => sign('github.push', { scheme: 'discord', secret: publicKey }, 'none')).toThrow(
      'only the provider can sign',
    )
  })
})

test('another secret is never the same one', () => {
  for (const secret of [
    'a',
    'A',
    '0',
    '9',
    'zz',
    '--',
    'user:password',
    `whsec_${Buffer.alloc(24).toString('base64')}`,
  ]) {
    expect(otherSecret(secret)).not.toBe(secret)
  }
})

test('the list names every provider of the demo', () => {
  const lines = sampleLines()
  for (const name of ['stripe', 'github', 'forms', 'shop', 'desk', 'crm'])
    expect(lines.filter((line) => line.startsWith(`${name}.  `))).toHaveLength(1)
})
