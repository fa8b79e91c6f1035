import { headerValues } from '@tenterhook/schemas/headers'
import type { HeaderPairs } from '@tenterhook/schemas/headers'
import { describe, expect, test } from 'vitest'
import { forwardHeaders } from './forward.ts'
import type { Forwarded } from './forward.ts'

const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'

function forward(received: HeaderPairs, options: Partial<Forwarded> = {}): HeaderPairs {
  return forwardHeaders({
    received,
    credentials: [],
    destination: { headers: {}, auth: { kind: 'none' } },
    delivery: { id: 'dlv_1', attempt: 2, sequence: '42' },
    trace: { traceparent },
    ...options,
  })
}

const ours = [
  ['webhook-id', 'dlv_1'],
  ['webhook-attempt', '2'],
  ['webhook-sequence', '42'],
  ['traceparent', traceparent],
]

describe('what the sender sent', () => {
  test('passes in its order and letter case, repeats kept', () => {
    const received: HeaderPairs = [
      ['Content-Type', 'application/json'],
      ['Content-Encoding', 'gzip'],
      ['User-Agent', 'Stripe/1.0'],
      ['Stripe-Signature', 't=1,v1=abc'],
      ['X-Hub-Signature-256', 'sha256=abc'],
      ['X-GitHub-Event', 'push'],
      ['Accept', '*/*'],
      ['X-Tag', 'a'],
      ['x-tag', 'b'],
      ['X-Name', 'caf\u00e9'],
      ['X-Empty', ''],
    ]
    expect(forward(received)).toEqual([...received, ...ours])
  })

  test.each([
    'Connection',
    'Keep-Alive',
    'TE',
    'Trailer',
    'Transfer-Encoding',
    'Upgrade',
    'HTTP2-Settings',
    'Proxy-Authorization',
    'Proxy-Authenticate',
    'Proxy-Connection',
    'Host',
    'Content-Length',
    'Expect',
    'Cookie',
    'Authorization',
    'Accept-Encoding',
    'Forwarded',
    'X-Forwarded-For',
    'X-Forwarded-Host',
    'X-Forwarded-Proto',
    'X-Forwarded-Client-Cert',
    'X-Real-IP',
    'True-Client-IP',
    'CF-Connecting-IP',
    'tracestate',
  ])('%s does not pass', (name) => {
    for (const written of [name, name.toUpperCase(), name.toLowerCase()]) {
      expect(
        forward([
          [written, 'x'],
          ['X-Stays', 'y'],
        ]),
      ).toEqual([['user-agent', 'tenterhook'], ['X-Stays', 'y'], ...ours])
    }
  })

  test('what its Connection header names does not pass', () => {
    const passed = forward([
      ['Connection', 'close, X-Hop'],
      ['connection', 'X-Other'],
      ['x-hop', '1'],
      ['X-Other', '2'],
      ['X-Stays', '3'],
    ])
    expect(passed).toEqual([['user-agent', 'tenterhook'], ['X-Stays', '3'], ...ours])
  })

  test('the credential that verified the source does not pass, whatever its name', () => {
    const passed = forward(
      [
        ['X-Gitlab-Token', 'secret'],
        ['X-GITLAB-TOKEN', 'secret'],
        ['X-Gitlab-Event', 'Push Hook'],
      ],
      { credentials: ['x-gitlab-token'] },
    )
    expect(passed).toEqual([['user-agent', 'tenterhook'], ['X-Gitlab-Event', 'Push Hook'], ...ours])
  })

  test('a value that no client could write is left out alone', () => {
    const passed = forward([
      ['X-Bad', 'a\r\nX-Injected: 1'],
      ['X-Null', 'a\0'],
      ['X-Wide', '→'],
      ['X-Good', '\ttab'],
      ['User-Agent', 'u'],
    ])
    expect(passed).toEqual([['X-Good', '\ttab'], ['User-Agent', 'u'], ...ours])
  })

  test('can not set our own headers', () => {
    const passed = forward([
      ['Webhook-Id', 'forged'],
      ['WEBHOOK-ATTEMPT', '9'],
      ['webhook-sequence', '9'],
      ['Traceparent', 'forged'],
      ['user-agent', 'u'],
    ])
    expect(passed).toEqual([['user-agent', 'u'], ...ours])
  })
})

describe('the destination', () => {
  test("its fixed headers replace the sender's, in any letter case", () => {
    const passed = forward(
      [
        ['X-Env', 'a'],
        ['x-env', 'b'],
        ['Content-Type', 'text/plain'],
        ['User-Agent', 'u'],
      ],
      {
        destination: {
          headers: { 'x-ENV': 'prod', 'User-Agent': 'mine', Cookie: 'session=1' },
          auth: { kind: 'none' },
        },
      },
    )
    expect(passed).toEqual([
      ['Content-Type', 'text/plain'],
      ['x-ENV', 'prod'],
      ['User-Agent', 'mine'],
      ['Cookie', 'session=1'],
      ...ours,
    ])
  })

  test('its fixed headers can not change how the request is framed or what is ours', () => {
    const passed = forward([], {
      destination: {
        headers: {
          Host: 'x',
          'Content-Length': '1',
          'Transfer-Encoding': 'chunked',
          Connection: 'close',
          Expect: '100-continue',
          'Webhook-Id': 'forged',
          Traceparent: 'forged',
        },
        auth: { kind: 'none' },
      },
    })
    expect(passed).toEqual([['user-agent', 'tenterhook'], ...ours])
  })

  test.each([
    [
      { kind: 'basic', username: 'Zoë', password: 'a:b' } as const,
      'authorization',
      `Basic ${Buffer.from('Zoë:a:b').toString('base64')}`,
    ],
    [{ kind: 'bearer', token: 't0ken' } as const, 'authorization', 'Bearer t0ken'],
    [{ kind: 'header', name: 'X-Api-Key', value: 'k' } as const, 'X-Api-Key', 'k'],
  ])('its auth %j replaces what the sender or a fixed header said', (auth, name, value) => {
    const passed = forward(
      [
        [name, 'sender'],
        ['User-Agent', 'u'],
      ],
      { destination: { headers: { [name.toUpperCase()]: 'fixed' }, auth } },
    )
    expect(passed).toEqual([['User-Agent', 'u'], [name, value], ...ours])
  })
})

describe('Standard Webhooks', () => {
  const fromProvider: HeaderPairs = [
    ['Webhook-Id', 'msg_1'],
    ['Webhook-Timestamp', '1'],
    ['Webhook-Signature', 'v1,theirs'],
    ['User-Agent', 'u'],
  ]

  test("our signature replaces the provider's id, time and signature together", () => {
    expect(forward(fromProvider, { signature: { timestampSeconds: 1_700_000_000, value: 'v1,ours' } })).toEqual([
      ['User-Agent', 'u'],
      ['webhook-id', 'dlv_1'],
      ['webhook-timestamp', '1700000000'],
      ['webhook-signature', 'v1,ours'],
      ...ours.slice(1),
    ])
  })

  test("unsigned, the provider's three pass together", () => {
    expect(forward(fromProvider)).toEqual([...fromProvider, ...ours.slice(1)])
  })
})

test('the trace state goes with the trace', () => {
  const passed = forward([['tracestate', 'forged=1']], { trace: { traceparent, tracestate: 'a=b' } })
  expect(headerValues(passed, 'tracestate')).toEqual(['a=b'])
})
