import type { HeaderPairs } from '@tenterhook/schemas/headers'
import { describe, expect, it } from 'vitest'
import { sortedFormParameters } from './form.ts'
import { hmacOf, rejected, testUrl, verificationOf, verifyWith } from './test-schemes.ts'
import { compileVerifier } from './verifier.ts'

describe('twilio', () => {
  const form = 'application/x-www-form-urlencoded'
  const sign = (signedUrl: string, parameters = '') => hmacOf(signedUrl + parameters, 's', 'base64', 'sha1')
  const send = (target: string, signature: string, body = '', type = form, method = 'POST') =>
    verifyWith(
      { scheme: 'twilio', secret: 's' },
      {
        method,
        url: target,
        headers: [
          ['Content-Type', type],
          ['X-Twilio-Signature', signature],
        ],
        body,
      },
    )

  it('signs the URL and the sorted parameters, a repeated one’s values sorted and once', () => {
    expect(send(testUrl, sign(testUrl, 'A2B1B3'), 'B=3&A=2&B=1&B=3').kind).toBe('verified')
    expect(send(testUrl, sign(testUrl, 'Bodyé +'), 'Body=%C3%A9+%2B').kind).toBe('verified')
  })

  it('accepts a GET with its parameters in the URL', () => {
    expect(send(`${testUrl}?CallSid=CA1`, sign(`${testUrl}?CallSid=CA1`), '', form, 'GET').kind).toBe('verified')
  })

  it('accepts the URL with and without its port, and in the older escapes', () => {
    expect(send(testUrl, sign('https://gw.example.com:443/in/source')).kind).toBe('verified')
    expect(send('https://gw.example.com:8443/in/source', sign(testUrl)).kind).toBe('verified')
    expect(send('http://gw.example.com/in/source', sign('http://gw.example.com:80/in/source')).kind).toBe('verified')
    expect(send(`${testUrl}?q=a+b`, sign(`${testUrl}?q=a%20b`)).kind).toBe('verified')
    expect(send(testUrl, sign('http://gw.example.com/in/source')).kind).toBe('rejected')
  })

  it('refuses a body put under the signature of a request without one, whatever its type', () => {
    for (const type of [form, 'application/json', 'text/plain', 'multipart/form-data; boundary=x'])
      for (const body of ['{"a":1}', 'a', 'a=', '=a', '\u0000'])
        expect(send(testUrl, sign(testUrl), body, type), `${type} ${body}`).toEqual(rejected('signature_mismatch'))
  })

  it('checks the body’s hash in the signed URL, which must stand there once', () => {
    const body = '{"a":1}'
    const hash = '015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862'
    const target = `${testUrl}?bodySHA256=${hash}`
    expect(send(target, sign(target), body, 'application/json').kind).toBe('verified')
    expect(send(target, sign(target), '{"a":2}', 'application/json')).toEqual(rejected('body_mismatch'))
    const twice = `${target}&bodySHA256=${hash}`
    expect(send(twice, sign(twice), body, 'application/json')).toEqual(rejected('body_mismatch'))
    const empty = `${testUrl}?bodySHA256=`
    expect(send(empty, sign(empty), body, 'application/json')).toEqual(rejected('body_mismatch'))
  })

  it('keeps escapes that are not UTF-8 apart', () => {
    expect(sortedFormParameters(Buffer.from('a=%ff'))).not.toEqual(sortedFormParameters(Buffer.from('a=%fe')))
    expect(sortedFormParameters(Buffer.from('a=%zz%4'))?.toString()).toBe('a%zz%4')
  })

  it('refuses more parameters than Twilio would send', () => {
    expect(send(testUrl, sign(testUrl), 'a&'.repeat(5_000))).toEqual(rejected('body_malformed'))
  })

  it('is answered with empty TwiML', () => {
    expect(compileVerifier(verificationOf('twilio')).acceptance).toMatchObject({
      status: 200,
      contentType: 'text/xml; charset=utf-8',
      body: expect.stringContaining('<Response>'),
    })
  })

  it('is keyed by the idempotency token, else by id and status', () => {
    const status = 'MessageSid=SM1&MessageStatus=delivered'
    expect(send(testUrl, sign(testUrl, 'MessageSidSM1MessageStatusdelivered'), status)).toEqual({
      kind: 'verified',
      dedupeKey: 'SM1:delivered',
      type: 'message.delivered',
    })
    const headers: HeaderPairs = [
      ['Content-Type', form],
      ['X-Twilio-Signature', sign(testUrl, 'MessageSidSM1MessageStatusdelivered')],
      ['I-Twilio-Idempotency-Token', 't1'],
    ]
    expect(verifyWith({ scheme: 'twilio', secret: 's' }, { headers, body: status })).toMatchObject({ dedupeKey: 't1' })
  })
})
