import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto'
import { soleHeader } from '@tenterhook/schemas/headers'
import type { HeaderPairs } from '@tenterhook/schemas/headers'
import { Webhook } from 'standardwebhooks'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  answer,
  closeMidResponse,
  drip,
  dripHeaders,
  endless,
  failing,
  hang,
  inTurn,
  redirect,
  reset,
} from '../support/behaviours.ts'
import type { Behaviour } from '../support/behaviours.ts'
import { until } from '../support/poll.ts'
import { keepablePort } from '../support/ports.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { attemptsOf, deliveriesOf } from '../support/rows.ts'
import type { AttemptRow, DeliveryRow } from '../support/rows.ts'
import { send } from '../support/send.ts'
import { sharedStack } from '../support/stack.ts'

let receiver: Receiver
let nobodysPort: number
beforeAll(async () => {
  receiver = await startReceiver()
  nobodysPort = await keepablePort()
})
afterAll(() => receiver.stop())

const secrets = ['whsec_dGhlIG5ld2VyIG9mIHR3byBzZWNyZXRz', 'whsec_dGhlIG9sZGVyIG9mIHR3byBzZWNyZXRz'] as const
const pair = generateKeyPairSync('ed25519')
const seed = pair.privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(-32)
const providersSecret = 'whsec_dGhlIHByb3ZpZGVyJ3Mgb3duIHNlY3JldA=='

/** A source, and behind it a destination of the same name, each for one test: nothing of one is in another's way. */
const named = (names: readonly string[], destination: (name: string) => object) => ({
  sources: Object.fromEntries(names.map((name) => [name, { verification: { scheme: 'none' as const } }])),
  destinations: Object.fromEntries(
    names.map((name) => [name, { url: `${receiver.url}/${name}`, ...destination(name) }]),
  ),
  connections: Object.fromEntries(
    names.map((name) => [
      name,
      { source: name, destination: name, retry: { schedule: ['200ms', '200ms'], jitter: 0 } },
    ]),
  ),
})

const stack = sharedStack(() => {
  const usual = named(
    [
      'signed',
      'long',
      'many',
      'bodyless',
      'reset',
      'hang',
      'drip',
      'drip-headers',
      'close',
      'redirect',
      'endless',
      'garbage',
      'refused',
      'nowhere',
      'basic',
      'keyed',
      'patch',
    ],
    (name) => ({
      ...(['hang', 'drip', 'drip-headers'].includes(name) && { timeout: '1s' }),
      ...(name === 'signed' && { signing: { secrets: [...secrets, `whsk_${seed.toString('base64')}`] } }),
      ...(name === 'refused' && { url: `http://127.0.0.1:${nobodysPort}/` }),
      ...(name === 'nowhere' && { url: 'http://no-such-name.invalid/' }),
      ...(name === 'basic' && { auth: { kind: 'basic', username: 'ada', password: 'pa:ss' } }),
      ...(name === 'keyed' && { auth: { kind: 'header', name: 'X-Key', value: 'k1' } }),
      ...(name === 'patch' && { method: 'PATCH' }),
    }),
  )
  return {
    config: {
      sources: {
        ...usual.sources,
        provider: { verification: { scheme: 'standard-webhooks', secret: providersSecret } },
      },
      destinations: { ...usual.destinations, through: { url: `${receiver.url}/through` } },
      connections: { ...usual.connections, through: { source: 'provider', destination: 'through' } },
    },
  }
})

/** Sends one event, and waits until its delivery has ended. */
async function deliver(
  name: string,
  behaviour: Behaviour,
  body = '{"some":"body"}',
): Promise<{ delivery: DeliveryRow; attempts: AttemptRow[] }> {
  receiver.on(`/${name}`, behaviour)
  const accepted = await send(stack(), name, { body })
  expect(accepted.status).toBe(200)
  const delivery = await until(
    async () =>
      (await deliveriesOf(stack().store, String(accepted.json['id']))).find(({ dueInMs }) => dueInMs === null),
    { what: `the delivery to ${name} to end`, timeoutMs: 15_000 },
  )
  return { delivery, attempts: await attemptsOf(stack().store, delivery.id) }
}

const record = (headers: HeaderPairs) => Object.fromEntries(headers.map(([name, value]) => [name.toLowerCase(), value]))

describe.concurrent('a signed delivery', () => {
  it('verifies by the Standard Webhooks library under each secret, at every attempt under the same id', async () => {
    const { delivery, attempts } = await deliver('signed', failing(2), '{"price":"10 €"}')
    expect(attempts.map(({ number, status }) => [number, status])).toEqual([
      [1, 500],
      [2, 500],
      [3, 200],
    ])
    const received = receiver.received('/signed')
    expect(received).toHaveLength(3)
    for (const [index, { headers, body }] of received.entries()) {
      for (const secret of secrets) expect(new Webhook(secret).verify(body, record(headers))).toEqual({ price: '10 €' })
      expect(soleHeader(headers, 'webhook-id')).toBe(delivery.id)
      expect(soleHeader(headers, 'webhook-attempt')).toBe(String(index + 1))
    }
  })

  it('carries an ed25519 signature beside them', async () => {
    await until(() => receiver.count('/signed') > 0, { what: 'a signed request' })
    const [{ headers, body } = { headers: [], body: Buffer.alloc(0) }] = receiver.received('/signed')
    const [, , last = ''] = (soleHeader(headers, 'webhook-signature') ?? '').split(' ')
    const content = Buffer.concat([
      Buffer.from(`${soleHeader(headers, 'webhook-id')}.${soleHeader(headers, 'webhook-timestamp')}.`),
      body,
    ])
    expect(last).toMatch(/^v1a,/)
    expect(verify(null, content, createPublicKey(pair.privateKey), Buffer.from(last.slice(4), 'base64'))).toBe(true)
  })

  it('of a provider that signs so itself passes under the provider’s signature, untouched', async () => {
    const accepted = await send(stack(), 'provider', { id: 'msg_of_the_provider', body: '{"a": 1}' })
    expect(accepted.status).toBe(200)
    const { headers, body } = await until(() => receiver.received('/through')[0], { what: 'the provider’s event' })
    expect(new Webhook(providersSecret).verify(body, record(headers))).toEqual({ a: 1 })
    expect(soleHeader(headers, 'webhook-id')).toBe('msg_of_the_provider')
  })
})

describe.concurrent('a destination that misbehaves once is tried again, and the attempt says what happened:', () => {
  const cases: [name: string, what: string, behaviour: () => Behaviour, expected: Partial<AttemptRow>][] = [
    ['reset', 'a connection reset', reset, { outcome: 'unreachable', code: 'reset', status: null }],
    ['hang', 'no answer in time', hang, { outcome: 'unreachable', code: 'timeout', status: null }],
    ['drip', 'a body that never ends', () => drip({ everyMs: 100 }), { outcome: 'unreachable', code: 'timeout' }],
    [
      'drip-headers',
      'headers that never end',
      () => dripHeaders({ everyMs: 100 }),
      { outcome: 'unreachable', code: 'timeout' },
    ],
    ['close', 'an answer that breaks off', closeMidResponse, { outcome: 'unreachable', code: 'reset' }],
    [
      'redirect',
      'a redirect, which is not followed',
      () => redirect(`${receiver.url}/elsewhere`),
      { outcome: 'rejected', status: 307 },
    ],
    [
      'garbage',
      'an answer that is not HTTP',
      () => (request) => void request.socket.end('SSH-2.0-OpenSSH_9.2\r\n'),
      { outcome: 'unreachable', code: 'protocol_error' },
    ],
  ]
  it.each(cases)('%s: %s', async (name, _what, behaviour, expected) => {
    const { delivery, attempts } = await deliver(name, inTurn(behaviour(), answer()))
    expect(delivery).toMatchObject({ state: 'delivered', attempt: 2, failures: 1 })
    expect(attempts).toEqual([
      expect.objectContaining({ number: 1, ...expected }),
      expect.objectContaining({ number: 2, outcome: 'delivered', status: 200 }),
    ])
    expect(receiver.count(`/${name}`)).toBe(2)
    expect(receiver.count('/elsewhere')).toBe(0)
  })

  it.each([
    ['refused', 'connect_refused'],
    ['nowhere', 'dns_failed'],
  ])('%s ends as a dead letter after its schedule, with the code %s', async (name, code) => {
    const { delivery, attempts } = await deliver(name, answer())
    expect(delivery).toMatchObject({ state: 'dead', deadReason: 'retries_used_up', failures: 3 })
    expect(attempts.map((attempt) => [attempt.outcome, attempt.code])).toEqual(
      [1, 2, 3].map(() => ['unreachable', code]),
    )
  })

  it('endless: of an answer that doesn’t stop after its 2xx, what is kept is enough', async () => {
    const { delivery, attempts } = await deliver('endless', endless())
    expect(delivery).toMatchObject({ state: 'delivered', attempt: 1 })
    expect(attempts[0]).toMatchObject({ status: 200, responseTruncated: true })
    expect(attempts[0]?.responseBody).toHaveLength(16_384)
  })
})

describe.concurrent('of the response', () => {
  it('status, headers in their order, 16 KB of the body and the timings are kept for each attempt', async () => {
    const headers: HeaderPairs = [
      ['X-One', '1'],
      ['Set-Cookie', 'a=1'],
      ['Set-Cookie', 'b=2'],
      ['Content-Type', 'text/plain'],
    ]
    const { attempts } = await deliver(
      'long',
      inTurn(
        answer({ status: 500, headers, body: `${'x'.repeat(16_384)}tail` }),
        answer({ status: 201, body: 'made' }),
      ),
    )
    expect(attempts[0]).toMatchObject({
      status: 500,
      outcome: 'rejected',
      responseTruncated: true,
      address: '127.0.0.1',
    })
    expect(attempts[0]?.responseBody?.toString()).toBe('x'.repeat(16_384))
    expect(
      attempts[0]?.responseHeaders
        ?.filter(([name]) => /^(x-one|set-cookie|content-type)$/i.test(name))
        .map(([, value]) => value),
    ).toEqual(['1', 'a=1', 'b=2', 'text/plain'])
    expect(attempts[0]?.timings['totalMs']).toBeGreaterThan(0)
    expect(attempts[1]).toMatchObject({
      status: 201,
      outcome: 'delivered',
      responseTruncated: false,
      responseBody: Buffer.from('made'),
    })
  })

  it('a 204 is a success without a body', async () => {
    const { delivery, attempts } = await deliver('bodyless', answer({ status: 204 }))
    expect(delivery.state).toBe('delivered')
    expect(attempts[0]).toMatchObject({ status: 204, responseBody: Buffer.alloc(0) })
  })
})

describe.concurrent('the request', () => {
  it('bears the destination’s method and auth', async () => {
    await Promise.all([deliver('basic', answer()), deliver('keyed', answer()), deliver('patch', answer())])
    const [basic, keyed, patch] = ['/basic', '/keyed', '/patch'].map((path) => receiver.received(path)[0])
    expect(soleHeader(basic?.headers ?? [], 'authorization')).toBe(
      `Basic ${Buffer.from('ada:pa:ss').toString('base64')}`,
    )
    expect(soleHeader(keyed?.headers ?? [], 'x-key')).toBe('k1')
    expect(patch?.method).toBe('PATCH')
  })

  it('of many at once goes out over a bounded number of connections', async () => {
    const before = receiver.connections().total
    receiver.on('/many', answer())
    const sent = await Promise.all(Array.from({ length: 300 }, () => send(stack(), 'many', { body: '{}' })))
    expect(sent.every(({ status }) => status === 200)).toBe(true)
    await until(() => receiver.count('/many') === 300, { what: 'all of them' })
    // At most the dispatcher's concurrency, with what the other tests open meanwhile.
    expect(receiver.connections().total - before).toBeLessThan(64 + 40)
  })
})
