import { headerValues } from '@tenterhook/schemas/headers'
import { createHash, randomBytes } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { answer, delayed, hang, inTurn } from '../../test/support/behaviours.ts'
import { until } from '../../test/support/poll.ts'
import { startReceiver } from '../../test/support/receiver.ts'
import type { Receiver } from '../../test/support/receiver.ts'
import { answering, rawServer, senderForTest } from './test-sender.ts'

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
beforeEach(() => receiver.clear())
afterAll(() => receiver.stop())

describe('the request', () => {
  test.each([
    ['nothing', Buffer.alloc(0)],
    ['NUL and bytes that are no UTF-8', Buffer.from([0, 0xff, 0xfe, 0x80, 0x0d, 0x0a, 0])],
    ['1 MiB of noise', randomBytes(1_048_576)],
  ])('brings %s byte for byte, with its length', async (_what, body) => {
    const { send } = await senderForTest()
    expect(await send(`${receiver.url}/hook`, { body })).toMatchObject({ kind: 'delivered', status: 200 })
    const [got] = receiver.received()
    expect(got?.sha256).toBe(createHash('sha256').update(body).digest('hex'))
    expect(headerValues(got?.headers ?? [], 'content-length')).toEqual([String(body.length)])
    expect(headerValues(got?.headers ?? [], 'transfer-encoding')).toEqual([])
  })

  test('brings headers in their order and letter case, repeats and latin1 kept', async () => {
    const { send } = await senderForTest()
    const headers = [
      ['X-Tag', 'a'],
      ['x-tag', 'b'],
      ['X-Name', 'caf\u00e9'],
      ['X-Empty', ''],
      ['Content-Type', 'a/b'],
    ] as const
    await send(`${receiver.url}/hook`, { headers })
    const [got] = receiver.received()
    expect(got?.headers.filter(([name]) => /^x-|content-type/i.test(name))).toEqual(headers)
  })

  test('brings path and query as they stand in the URL, and no fragment', async () => {
    const { send } = await senderForTest()
    await send(`${receiver.url}/a%20b/%2F?x=%26&y#fragment`)
    expect(receiver.received()).toMatchObject([{ path: '/a%20b/%2F', query: 'x=%26&y' }])
  })

  test.each(['POST', 'PUT', 'PATCH', 'DELETE', 'GET'])(
    '%s carries a body, and none when there is none',
    async (method) => {
      const { send } = await senderForTest()
      expect(await send(`${receiver.url}/with`, { method, body: Buffer.from('abc') })).toMatchObject({
        kind: 'delivered',
      })
      expect(await send(`${receiver.url}/without`, { method, body: Buffer.alloc(0) })).toMatchObject({
        kind: 'delivered',
      })
      expect(receiver.received().map(({ method, path, bytes }) => [method, path, bytes])).toEqual([
        [method, '/with', 3],
        [method, '/without', 0],
      ])
    },
  )

  test.each([
    ['a line break in a header', { headers: [['X-A', 'a\r\nX-B: b']] as const }],
    ['a header name that is no token', { headers: [['X A', 'a']] as const }],
    ['a character beyond latin1', { headers: [['X-A', '→']] as const }],
    ['Transfer-Encoding', { headers: [['Transfer-Encoding', 'chunked']] as const }],
    ['another Content-Length', { headers: [['Content-Length', '99']] as const }],
    ['Expect', { headers: [['Expect', '100-continue']] as const }],
    ['a method that is no token', { method: 'PO ST' }],
    ['CONNECT', { method: 'CONNECT' }],
  ])('with %s is refused, and not a byte of it is sent', async (_what, request) => {
    const { send } = await senderForTest()
    const outcome = await send(`${receiver.url}/hook`, request)
    expect(outcome).toMatchObject({ kind: 'blocked', code: 'request_invalid' })
    expect(receiver.count()).toBe(0)
    expect(await send(`${receiver.url}/hook`)).toMatchObject({ kind: 'delivered' })
  })
})

describe('the outcome', () => {
  test.each([200, 201, 202, 204, 299])('%i is delivered', async (status) => {
    const { send } = await senderForTest()
    receiver.on('/hook', answer({ status }))
    expect(await send(`${receiver.url}/hook`)).toMatchObject({
      kind: 'delivered',
      status,
      truncated: false,
      address: '127.0.0.1',
    })
  })

  test.each([300, 304, 400, 401, 404, 410, 429, 500, 503, 599])('%i is rejected', async (status) => {
    const { send } = await senderForTest()
    receiver.on('/hook', answer({ status, headers: [['Retry-After', '7']] }))
    const outcome = await send(`${receiver.url}/hook`)
    expect(outcome).toMatchObject({ kind: 'rejected', status, truncated: false })
    expect(outcome.kind === 'rejected' && headerValues(outcome.headers, 'retry-after')).toEqual(['7'])
  })

  test('keeps the response as it came: header pairs in order, body bytes as they are', async () => {
    const { send } = await senderForTest()
    const server = await rawServer(
      answering(
        Buffer.from(
          'HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-Name: caf\u00e9\r\nContent-Length: 3\r\n\r\n\0\u00ff\n',
          'latin1',
        ),
      ),
    )
    expect(await send(server.url)).toMatchObject({
      headers: [
        ['Set-Cookie', 'a=1'],
        ['set-cookie', 'b=2'],
        ['X-Name', 'caf\u00e9'],
        ['Content-Length', '3'],
      ],
      body: Buffer.from([0, 0xff, 0x0a]),
    })
  })

  test('times the phases it went through, and none that an open socket spared', async () => {
    const { send } = await senderForTest()
    receiver.on('/hook', delayed(30))
    const url = `http://receiver.test:${receiver.port}/hook`
    const first = await send(url)
    const second = await send(url)
    const timings = 'timings' in first ? first.timings : undefined
    expect(Object.keys(timings ?? {}).toSorted()).toEqual(['connectMs', 'dnsMs', 'firstByteMs', 'totalMs'])
    expect(timings?.firstByteMs).toBeGreaterThanOrEqual(28)
    expect(timings?.totalMs).toBeGreaterThanOrEqual(
      (timings?.dnsMs ?? 0) + (timings?.connectMs ?? 0) + (timings?.firstByteMs ?? 0),
    )
    expect('timings' in second && Object.keys(second.timings).toSorted()).toEqual(['firstByteMs', 'totalMs'])
  })
})

describe('the lease', () => {
  test('that lapses before the first byte leaves the destination without a request', async () => {
    const { send } = await senderForTest()
    expect(await send(`${receiver.url}/hook`, {}, { beforeFirstByte: () => false })).toMatchObject({
      kind: 'abandoned',
      code: 'lease_lapsed',
    })
    await until(() => receiver.connections().open === 0, { what: 'the connection to be closed' })
    expect(receiver.count()).toBe(0)
    expect(receiver.connections().aborted).toBe(0)
  })

  test('is asked after the name was resolved and the socket opened', async () => {
    const { send, dns } = await senderForTest()
    const seen: unknown[] = []
    await send(
      `http://receiver.test:${receiver.port}/hook`,
      {},
      { beforeFirstByte: () => seen.push(dns.questions().length, receiver.count()) > 0 },
    )
    expect(seen).toEqual([2, 0])
    expect(receiver.count()).toBe(1)
  })
})

describe('stopping', () => {
  test('before anything was sent abandons the attempt', async () => {
    const { send } = await senderForTest({ answerFor: () => 'silence' })
    const stop = new AbortController()
    const sending = send(`http://receiver.test:${receiver.port}/`, {}, { signal: stop.signal })
    stop.abort()
    expect(await sending).toMatchObject({ kind: 'abandoned', code: 'aborted' })
    expect(await send(`${receiver.url}/`, {}, { signal: stop.signal })).toMatchObject({
      kind: 'abandoned',
      code: 'aborted',
    })
    expect(receiver.count()).toBe(0)
  })

  test('after the request went out says so, and closes the connection', async () => {
    const { send } = await senderForTest()
    receiver.on('/hook', hang())
    const stop = new AbortController()
    const sending = send(`${receiver.url}/hook`, {}, { signal: stop.signal })
    await until(() => receiver.count() === 1, { what: 'the request' })
    stop.abort()
    expect(await sending).toMatchObject({ kind: 'unreachable', code: 'aborted' })
    await until(() => receiver.connections().open === 0, { what: 'the connection to be closed' })
  })

  test('with close lets what is under way end, and takes nothing new', async () => {
    const { sender, send } = await senderForTest()
    receiver.on('/hook', delayed(100))
    const sending = send(`${receiver.url}/hook`)
    await until(() => receiver.count() === 1, { what: 'the request' })
    const closing = sender.close()
    expect(await send(`${receiver.url}/hook`)).toMatchObject({ kind: 'abandoned', code: 'closing' })
    await closing
    expect(await sending).toMatchObject({ kind: 'delivered' })
    await until(() => receiver.connections().open === 0, { what: 'the connection to be closed' })
  })

  test('with destroy ends what is under way at once', async () => {
    const { sender, send } = await senderForTest()
    receiver.on('/hook', hang())
    const sending = send(`${receiver.url}/hook`)
    await until(() => receiver.count() === 1, { what: 'the request' })
    sender.destroy()
    expect(await sending).toMatchObject({ kind: 'unreachable', code: 'aborted' })
    await sender.close()
  })
})

describe('redirects', () => {
  test.each([301, 302, 303, 307, 308])('%i is rejected and not followed', async (status) => {
    const { send } = await senderForTest()
    receiver.on('/hook', answer({ status, headers: [['Location', `${receiver.url}/elsewhere`]] }))
    expect(await send(`${receiver.url}/hook`)).toMatchObject({ kind: 'rejected', status })
    expect(receiver.received().map(({ path }) => path)).toEqual(['/hook'])
  })

  test('a loop is one attempt', async () => {
    const { send } = await senderForTest()
    receiver.on('/hook', answer({ status: 302, headers: [['Location', '/hook']] }))
    expect(await send(`${receiver.url}/hook`)).toMatchObject({ kind: 'rejected', status: 302 })
    expect(receiver.count()).toBe(1)
  })
})

test("a request is sent once whatever the answer: nothing is repeated behind the schedule's back", async () => {
  const { send } = await senderForTest()
  receiver.on(
    '/hook',
    inTurn(
      answer({ status: 503 }),
      answer({ status: 429 }),
      (request) => void request.socket.resetAndDestroy(),
      answer(),
    ),
  )
  const kinds: string[] = []
  for (let i = 0; i < 4; i++) kinds.push((await send(`${receiver.url}/hook`)).kind)
  expect(kinds).toEqual(['rejected', 'rejected', 'unreachable', 'delivered'])
  expect(receiver.count()).toBe(4)
})
