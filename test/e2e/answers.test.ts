import { soleHeader } from '@tenterhook/schemas/headers'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { drained } from '../support/rows.ts'
import { send, signed } from '../support/send.ts'
import { sharedStack } from '../support/stack.ts'

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.stop())

const stack = sharedStack(() => ({
  config: {
    sources: {
      chat: { verification: { scheme: 'slack', secret: 'chat-key' } },
      phone: { verification: { scheme: 'twilio', secret: 'phone-key' } },
      pages: { verification: { scheme: 'meta', secret: 'pages-key', verifyToken: 'pages-token' } },
      own: { verification: { scheme: 'none' }, response: { status: 202, contentType: 'text/plain', body: 'thanks' } },
      silent: { verification: { scheme: 'none' }, response: { status: 204, body: '' } },
      many: { verification: { scheme: 'none' }, methods: ['GET', 'PUT', 'PATCH', 'DELETE'] },
      ours: {
        verification: {
          scheme: 'standard-webhooks',
          secrets: ['whsec_bmV3ZXIgc2VjcmV0IG9mIG91cnM=', 'whsec_b2xkZXIgc2VjcmV0IG9mIG91cnM='],
        },
      },
    },
    destinations: { all: { url: `${receiver.url}/all` } },
    connections: Object.fromEntries(
      ['chat', 'phone', 'pages', 'own', 'silent', 'many', 'ours'].map((source) => [
        source,
        { source, destination: 'all' },
      ]),
    ),
  },
}))
beforeEach(async () => {
  await drained(stack().store)
  receiver.clear()
})

const json = [['Content-Type', 'application/json']] as const
const form = [['Content-Type', 'application/x-www-form-urlencoded']] as const
const arrived = async () => {
  await drained(stack().store)
  return receiver.count()
}

describe('the answer', () => {
  it('to Slack’s signed challenge is the challenge, and nothing becomes an event', async () => {
    const body = JSON.stringify({
      type: 'url_verification',
      challenge: '3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P',
    })
    const answer = await send(stack(), 'chat', { headers: json, body })
    expect(answer).toMatchObject({ status: 200, text: '3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P' })
    expect(soleHeader(answer.headers, 'content-type')).toMatch(/^text\/plain/)
    expect(await arrived()).toBe(0)
  })

  it('to a challenge that nobody signed is 401', async () => {
    const answer = await send(stack(), 'chat', {
      headers: json,
      body: JSON.stringify({ type: 'url_verification', challenge: 'x' }),
      sign: false,
    })
    expect(answer.status).toBe(401)
    expect(answer.json['code']).toBe('signature_missing')
  })

  it('to a Slack event is an empty 200, and its retries are duplicates', async () => {
    const body = JSON.stringify({ type: 'event_callback', event_id: 'Ev1', event: { type: 'message' } })
    const first = await send(stack(), 'chat', { headers: json, body })
    const again = await send(stack(), 'chat', { headers: [...json, ['X-Slack-Retry-Num', '1']], body })
    expect([first, again].map(({ status, text }) => ({ status, text }))).toEqual([
      { status: 200, text: '' },
      { status: 200, text: '' },
    ])
    expect(await arrived()).toBe(1)
  })

  it('to Twilio, which signs the public URL and the form, is empty TwiML, also for a duplicate', async () => {
    const body = 'MessageSid=SM1&SmsStatus=received&Body=Gr%C3%BC%C3%9Fe+%26+more&From=%2B14155550100'
    for (const rest of ['?shop=1&lang=de', '?shop=1&lang=de']) {
      const answer = await send(stack(), 'phone', { headers: form, body, rest })
      expect(answer).toMatchObject({
        status: 200,
        text: expect.stringMatching(/<Response\s*\/>|<Response><\/Response>/),
      })
      expect(soleHeader(answer.headers, 'content-type')).toMatch(/xml/)
    }
    expect(await arrived()).toBe(1)
    expect(receiver.received()[0]?.body.toString()).toBe(body)
  })

  it('to a Twilio signature over another URL is 401', async () => {
    const { headers } = signed(stack(), 'phone', { headers: form, body: 'MessageSid=SM2', rest: '/one' })
    expect((await send(stack(), 'phone', { headers, body: 'MessageSid=SM2', rest: '/two', sign: false })).status).toBe(
      401,
    )
  })

  it('to Meta’s GET is its challenge, when the verify token is right', async () => {
    const ask = (token: string) =>
      send(stack(), 'pages', {
        method: 'GET',
        sign: false,
        rest: `?hub.mode=subscribe&hub.verify_token=${token}&hub.challenge=1158201444`,
      })
    expect(await ask('pages-token')).toMatchObject({ status: 200, text: '1158201444' })
    expect(await ask('another')).toMatchObject({ status: 401, json: { code: 'credential_mismatch' } })
    expect(await arrived()).toBe(0)
  })

  it('is what the source says, where it says something', async () => {
    const own = await send(stack(), 'own', { body: '{}' })
    expect(own).toMatchObject({ status: 202, text: 'thanks' })
    expect(soleHeader(own.headers, 'content-type')).toBe('text/plain')
    expect(await send(stack(), 'silent', { body: '{}' })).toMatchObject({ status: 204, text: '' })
    expect(await arrived()).toBe(2)
  })

  it('to each method that the source takes is 200, to another 405', async () => {
    for (const method of ['GET', 'PUT', 'PATCH', 'DELETE'])
      expect((await send(stack(), 'many', { method })).status, method).toBe(200)
    for (const method of ['POST', 'HEAD', 'OPTIONS'])
      expect((await send(stack(), 'many', { method })).status, method).toBe(405)
    expect(await arrived()).toBe(4)
    const { rows } = await stack().store.durable.query<{ method: string }>(
      `SELECT method FROM event_content WHERE method <> 'POST' ORDER BY event_id`,
    )
    expect(rows.map(({ method }) => method)).toEqual(['GET', 'PUT', 'PATCH', 'DELETE'])
  })

  it('is 200 under either secret while one is rotated, and the sender’s own id is the dedupe key', async () => {
    const verification = stack().verificationOf('ours')
    if (verification.scheme !== 'standard-webhooks') throw new Error('unreachable')
    const [newer = '', older = ''] = verification.secrets
    const under = (secret: string, id: string) =>
      send(stack(), 'ours', { headers: json, body: '{"type":"a.b"}', id, sign: { ...verification, secrets: [secret] } })
    const first = await under(older, 'msg_1')
    expect(first.status).toBe(200)
    expect((await under(newer, 'msg_1')).json).toEqual({ id: first.json['id'], duplicate: true })
    expect((await under(newer, 'msg_2')).json['duplicate']).toBeUndefined()
    expect((await under('whsec_c29tZWJvZHkgZWxzZSdzIHNlY3JldA==', 'msg_3')).status).toBe(401)
    expect(await arrived()).toBe(2)
  })
})
