import { hash, randomBytes } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { headerValues } from '@tenterhook/schemas/headers'
import type { HeaderPairs } from '@tenterhook/schemas/headers'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startReceiver } from '../support/receiver.ts'
import type { Received, Receiver } from '../support/receiver.ts'
import { drained } from '../support/rows.ts'
import { send, sendRaw } from '../support/send.ts'
import { sharedStack } from '../support/stack.ts'

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.stop())

const stack = sharedStack(() => ({
  config: {
    sources: {
      raw: { verification: { scheme: 'none' }, methods: ['POST', 'PUT', 'PATCH', 'DELETE'] },
      deep: { verification: { scheme: 'none' }, methods: ['POST', 'GET'] },
    },
    destinations: {
      plain: {
        url: `${receiver.url}/plain`,
        headers: { 'X-Fixed': 'from the destination', 'X-Both': 'the destination’s'.replace('’', "'") },
        auth: { kind: 'bearer', token: 'for-the-destination' },
      },
      put: { url: `${receiver.url}/put`, method: 'PUT' },
      deep: { url: `${receiver.url}/base/?fixed=1`, forwardPath: true },
    },
    connections: {
      plain: { source: 'raw', destination: 'plain' },
      put: { source: 'raw', destination: 'put' },
      deep: { source: 'deep', destination: 'deep' },
    },
  },
}))
beforeEach(async () => {
  await drained(stack().store)
  receiver.clear()
})

const mebibyte = 1_048_576
const multipart = Buffer.concat([
  Buffer.from('--cut\r\nContent-Disposition: form-data; name="note"\r\n\r\nGrüße\r\n--cut\r\n'),
  Buffer.from(
    'Content-Disposition: form-data; name="file"; filename="a.bin"\r\nContent-Type: application/octet-stream\r\n\r\n',
  ),
  Buffer.from([0, 255, 13, 10, 45, 45, 99]),
  Buffer.from('\r\n--cut--\r\n'),
])

/** What comes from a sender, and what of it a careless gateway would change. */
const bodies: Record<string, { headers: HeaderPairs; body: Buffer }> = {
  'JSON, its spaces, key order, repeated keys and long numbers': {
    headers: [['Content-Type', 'application/json']],
    body: Buffer.from('{ "b":1,\n "a": 12345678901234567890.10, "a":"\\u00e9" }\n'),
  },
  'JSON with a byte order mark': {
    headers: [['Content-Type', 'application/json; charset=utf-8']],
    body: Buffer.from('\ufeff{"a":1}'),
  },
  'malformed JSON': { headers: [['Content-Type', 'application/json']], body: Buffer.from('{"a":') },
  'a form': {
    headers: [['Content-Type', 'application/x-www-form-urlencoded']],
    body: Buffer.from('a=1&b=%20+&c&a=2&=%ff'),
  },
  XML: {
    headers: [['Content-Type', 'application/xml']],
    body: Buffer.from('<?xml version="1.0" encoding="ISO-8859-1"?>\r\n<a>\xe9</a>', 'latin1'),
  },
  text: { headers: [['Content-Type', 'text/plain; charset=utf-16le']], body: Buffer.from('Grüße\r\n', 'utf16le') },
  'a multipart form with a file': { headers: [['Content-Type', 'multipart/form-data; boundary=cut']], body: multipart },
  'binary, every byte there is': {
    headers: [['Content-Type', 'application/octet-stream']],
    body: Buffer.from(Array.from({ length: 256 }, (_, n) => n)),
  },
  'NUL alone': { headers: [['Content-Type', 'application/octet-stream']], body: Buffer.alloc(3) },
  'text that is not UTF-8': {
    headers: [['Content-Type', 'application/json']],
    body: Buffer.from([0x7b, 0xc3, 0x28, 0xed, 0xa0, 0x80, 0xff, 0x7d]),
  },
  'a gzip body, not inflated': {
    headers: [
      ['Content-Type', 'application/json'],
      ['Content-Encoding', 'gzip'],
    ],
    body: gzipSync('{"compressed":true}'),
  },
  'a body that says gzip and is none': {
    headers: [['Content-Encoding', 'gzip']],
    body: Buffer.from('not gzip at all'),
  },
  'a body in an encoding that nobody knows': { headers: [['Content-Encoding', 'snappy']], body: randomBytes(100) },
  nothing: { headers: [], body: Buffer.alloc(0) },
  'a body without a type': { headers: [], body: Buffer.from('?') },
  '1 MiB of random bytes': { headers: [['Content-Type', 'application/octet-stream']], body: randomBytes(mebibyte) },
}

function only(path: string): Received {
  const all = receiver.received(path)
  expect(all, `requests to ${path}`).toHaveLength(1)
  const [one] = all
  if (one === undefined) throw new Error('unreachable')
  return one
}

describe('a body arrives byte for byte', () => {
  it.each(Object.entries(bodies))('%s', async (_what, { headers, body }) => {
    const answer = await send(stack(), 'raw', { headers, body })
    expect(answer.status).toBe(200)
    await drained(stack().store)
    for (const path of ['/plain', '/put']) {
      const arrived = only(path)
      expect({ bytes: arrived.bytes, sha256: arrived.sha256 }).toEqual({
        bytes: body.length,
        sha256: hash('sha256', body, 'hex'),
      })
      for (const name of ['Content-Type', 'Content-Encoding'] as const)
        expect(headerValues(arrived.headers, name)).toEqual(headerValues(headers, name))
      expect(headerValues(arrived.headers, 'content-length')).toEqual([String(body.length)])
    }
    expect(only('/put').method).toBe('PUT')
  })

  it('sent in chunks, with trailers that nobody asked for', async () => {
    const chunked =
      'POST /in/raw HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-After\r\n\r\n3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nX-After: 1\r\n\r\n'
    expect((await sendRaw(stack(), chunked)).status).toBe(200)
    await drained(stack().store)
    expect(only('/plain').body.toString()).toBe('abcde')
  })

  it('of one byte more than 1 MiB not at all: it is refused', async () => {
    expect(await send(stack(), 'raw', { body: randomBytes(mebibyte + 1) })).toMatchObject({
      status: 413,
      json: { code: 'body_too_large' },
    })
    await drained(stack().store)
    expect(receiver.count()).toBe(0)
  })

  it('twenty of 1 MiB at once, each as its own', async () => {
    const sent = Array.from({ length: 20 }, () => randomBytes(mebibyte))
    const answers = await Promise.all(sent.map((body) => send(stack(), 'raw', { body })))
    expect(answers.map(({ status }) => status)).toEqual(sent.map(() => 200))
    await drained(stack().store)
    expect(
      receiver
        .received('/plain')
        .map(({ sha256 }) => sha256)
        .toSorted(),
    ).toEqual(sent.map((body) => hash('sha256', body, 'hex')).toSorted())
  })
})

describe('of the headers', () => {
  const sent: HeaderPairs = [
    ['Host', 'shop.example'],
    ['Content-Type', 'application/json'],
    ['X-Custom', 'one'],
    ['x-custom', 'two'],
    ['X-Hub-Signature-256', 'sha256=abc'],
    ['User-Agent', 'Sender/1.0'],
    ['X-Latin', 'Gr\xfc\xdfe'],
    ['X-Both', 'the sender’s'.replace('’', "'")],
    ['Authorization', 'Bearer for-the-gateway'],
    ['Cookie', 'session=1'],
    ['Connection', 'close, X-Hop'],
    ['X-Hop', 'only to the next'],
    ['Keep-Alive', 'timeout=5'],
    ['TE', 'trailers'],
    ['Upgrade', 'h2c'],
    ['Proxy-Authorization', 'Basic eDp5'],
    ['X-Forwarded-For', '10.1.1.1'],
    ['X-Forwarded-Host', 'inside'],
    ['Forwarded', 'for=10.1.1.1'],
    ['X-Real-IP', '10.1.1.1'],
    ['Accept-Encoding', 'br'],
    ['Expect', '100-continue'],
    ['webhook-attempt', '99'],
    ['webhook-sequence', '99'],
    ['Content-Length', '2'],
  ]
  const bytes = Buffer.from(
    `POST /in/raw HTTP/1.1\r\n${sent.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n{}`,
    'latin1',
  )

  it('what the sender said passes, in its order; what is of the way, of others or a credential never does', async () => {
    expect((await sendRaw(stack(), bytes)).status).toBe(200)
    await drained(stack().store)
    const { headers } = only('/put')
    const arrived = (name: string) => headerValues(headers, name)
    expect(arrived('x-custom')).toEqual(['one', 'two'])
    expect(arrived('x-hub-signature-256')).toEqual(['sha256=abc'])
    expect(arrived('user-agent')).toEqual(['Sender/1.0'])
    expect(arrived('x-latin')).toEqual(['Gr\xfc\xdfe'])
    expect(arrived('host')).toEqual([new URL(receiver.url).host])
    for (const name of [
      'Authorization',
      'Cookie',
      'X-Hop',
      'Keep-Alive',
      'TE',
      'Upgrade',
      'Proxy-Authorization',
      'X-Forwarded-For',
      'X-Forwarded-Host',
      'Forwarded',
      'X-Real-IP',
      'Accept-Encoding',
      'Expect',
    ])
      expect(arrived(name), name).toEqual([])
    expect(arrived('webhook-attempt')).toEqual(['1'])
    expect(arrived('webhook-sequence')).not.toEqual(['99'])
    expect(arrived('content-length')).toEqual(['2'])
  })

  it('the destination’s own headers and auth take the place of the sender’s', async () => {
    expect((await sendRaw(stack(), bytes)).status).toBe(200)
    await drained(stack().store)
    const { headers } = only('/plain')
    expect(headerValues(headers, 'x-fixed')).toEqual(['from the destination'])
    expect(headerValues(headers, 'x-both')).toEqual(["the destination's"])
    expect(headerValues(headers, 'authorization')).toEqual(['Bearer for-the-destination'])
  })

  it('a traceparent, an id, the attempt and the place in the order go with every delivery', async () => {
    const answer = await send(stack(), 'raw', { body: '{}' })
    await drained(stack().store)
    const { headers } = only('/put')
    expect(headerValues(headers, 'webhook-id')).toEqual([expect.stringMatching(/^dlv_[0-9a-z]{26}$/)])
    expect(headerValues(headers, 'traceparent')).toEqual([
      expect.stringMatching(/^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$/),
    ])
    const { rows } = await stack().store.durable.query<{ seq: string }>('SELECT seq FROM events WHERE id = $1', [
      answer.json['id'],
    ])
    expect(headerValues(headers, 'webhook-sequence')).toEqual([rows[0]?.seq])
  })
})

describe('of the target', () => {
  /** As the tables have it: what follows the source, and the query. */
  async function kept(eventId: unknown): Promise<{ path: string; query: string } | undefined> {
    const { rows } = await stack().store.durable.query<{ path: string; query: string }>(
      'SELECT path, query FROM event_content WHERE event_id = $1',
      [eventId],
    )
    return rows[0]
  }

  it.each([
    ['', '', '/base/?fixed=1'],
    ['/a/b', '', '/base/a/b?fixed=1'],
    ['/a%2Fb', 'x=1&x=2', '/base/a%2Fb?fixed=1&x=1&x=2'],
    ['//double//slash/', '', '/base//double//slash/?fixed=1'],
    ['/spaced%20out', 'q=%zz&empty=&=&&', '/base/spaced%20out?fixed=1&q=%zz&empty=&=&&'],
    ['/a?b', '', undefined],
    ['/up/../../../../etc/passwd', '', '/base/etc/passwd?fixed=1'],
    ['/%2e%2e/%2e%2e/secret', '', '/base/secret?fixed=1'],
    ['/unicode/%E2%82%AC', 'e=%E2%82%AC', '/base/unicode/%E2%82%AC?fixed=1&e=%E2%82%AC'],
  ])(
    '%j with query %j is kept as it came, and forwarded below the destination’s own path',
    async (path, query, forwarded) => {
      const target = `/in/deep${path}${query === '' ? '' : `?${query}`}`
      const answer = await sendRaw(
        stack(),
        Buffer.from(`POST ${target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n`, 'latin1'),
      )
      expect(answer.status).toBe(200)
      await drained(stack().store)
      const [cutPath = '', cutQuery = ''] = target.slice('/in/deep'.length).split(/\?(.*)/s)
      expect(await kept(answer.json['id'])).toEqual({ path: cutPath, query: cutQuery })
      const [arrived] = receiver.received()
      if (forwarded !== undefined) expect(`${arrived?.path}?${arrived?.query}`).toBe(forwarded)
      expect(arrived?.path).toMatch(/^\/base\//)
    },
  )

  it('that holds bytes beyond ASCII is refused: no HTTP/1.1 client may send one', async () => {
    const answer = await sendRaw(
      stack(),
      Buffer.from('POST /in/deep/\xe9 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n', 'latin1'),
    )
    expect(answer).toMatchObject({ status: 400, json: { code: 'request_malformed' } })
  })

  it('that climbs with an encoded slash is kept and not sent', async () => {
    const answer = await sendRaw(
      stack(),
      'POST /in/deep/..%2f..%2fadmin HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n',
    )
    expect(answer.status).toBe(200)
    await drained(stack().store)
    const { rows } = await stack().store.durable.query('SELECT dead_reason FROM deliveries WHERE event_id = $1', [
      answer.json['id'],
    ])
    expect(rows).toEqual([{ dead_reason: 'cannot_succeed' }])
    expect(receiver.count()).toBe(0)
  })

  it('nothing is forwarded where the destination doesn’t ask for it', async () => {
    await send(stack(), 'raw', { rest: '/sub/path?x=1', body: '{}' })
    await drained(stack().store)
    expect(only('/plain')).toMatchObject({ path: '/plain', query: '' })
  })
})
