import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { answer, closeMidResponse, drip, dripHeaders, endless, hang, reset } from '../../test/support/behaviours.ts'
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

const allClosed = () => until(() => receiver.connections().open === 0, { what: 'the connection to be closed' })

describe('silence and slowness end at the deadline', () => {
  test.each([
    ['never answers', hang()],
    ['drips its headers', dripHeaders({ everyMs: 20 })],
    ['drips its body after a 200', drip({ everyMs: 20 })],
  ])('a destination that %s', async (_what, behaviour) => {
    const { send } = await senderForTest()
    receiver.on('/hook', behaviour)
    const outcome = await send(`${receiver.url}/hook`, { timeoutMs: 200 })
    expect(outcome).toMatchObject({ kind: 'unreachable', code: 'timeout', address: '127.0.0.1' })
    const totalMs = 'timings' in outcome ? outcome.timings.totalMs : 0
    expect(totalMs).toBeGreaterThanOrEqual(195)
    expect(totalMs).toBeLessThan(1_500)
    await allClosed()
    expect(receiver.count()).toBe(1)
  })

  test('a destination that accepts the connection and reads nothing', async () => {
    const server = await rawServer((socket) => socket.pause())
    const { send } = await senderForTest()
    expect(await send(server.url, { body: Buffer.alloc(8 * 1_048_576), timeoutMs: 200 })).toMatchObject({
      kind: 'unreachable',
      code: 'timeout',
    })
  })

  test('a "no" counts as soon as it is read, whatever becomes of its body', async () => {
    const { send } = await senderForTest()
    const server = await rawServer(answering('HTTP/1.1 410 Gone\r\nContent-Length: 100\r\n\r\npart'))
    expect(await send(server.url, { timeoutMs: 200 })).toMatchObject({
      kind: 'rejected',
      status: 410,
      body: Buffer.from('part'),
      truncated: true,
    })
  })
})

describe('the response body', () => {
  test('of exactly 16 KB is kept whole', async () => {
    const { send } = await senderForTest()
    receiver.on('/hook', answer({ body: Buffer.alloc(16_384, 'x') }))
    const outcome = await send(`${receiver.url}/hook`)
    expect(outcome).toMatchObject({ kind: 'delivered', truncated: false, body: { length: 16_384 } })
  })

  test.each([200, 500])('of more is cut there, and the connection with it (status %i)', async (status) => {
    const { send } = await senderForTest()
    receiver.on('/hook', answer({ status, body: Buffer.alloc(16_385, 'x') }))
    expect(await send(`${receiver.url}/hook`)).toMatchObject({
      kind: status === 200 ? 'delivered' : 'rejected',
      truncated: true,
      body: Buffer.alloc(16_384, 'x'),
    })
    await allClosed()
  })

  test('that never ends is not drained', async () => {
    const { send } = await senderForTest()
    receiver.on('/hook', endless())
    expect(await send(`${receiver.url}/hook`)).toMatchObject({
      kind: 'delivered',
      status: 200,
      truncated: true,
      body: { length: 16_384 },
    })
    await allClosed()
  })

  test('that is a gzip bomb stays as small as it came', async () => {
    const { send } = await senderForTest()
    const bomb = gzipSync(Buffer.alloc(10 * 1_048_576))
    expect(bomb.length).toBeLessThan(16_384)
    receiver.on('/hook', answer({ headers: [['Content-Encoding', 'gzip']], body: bomb }))
    expect(await send(`${receiver.url}/hook`)).toMatchObject({ kind: 'delivered', truncated: false, body: bomb })
  })

  test('of an HTTP/1.0 server ends with the connection', async () => {
    const { send } = await senderForTest()
    const server = await rawServer(
      answering('HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end', (socket) => socket.end()),
    )
    expect(await send(server.url)).toMatchObject({
      kind: 'delivered',
      body: Buffer.from('until the end'),
      truncated: false,
    })
    expect(await send(server.url)).toMatchObject({ kind: 'delivered' })
    expect(server.connections()).toBe(2)
  })
})

describe('a connection that breaks', () => {
  test('by RST in place of an answer is a reset, and the request is not repeated', async () => {
    const { send } = await senderForTest()
    receiver.on('/hook', reset())
    expect(await send(`${receiver.url}/hook`)).toMatchObject({ kind: 'unreachable', code: 'reset' })
    expect(receiver.count()).toBe(1)
  })

  test('by FIN in place of an answer is a reset', async () => {
    const { send } = await senderForTest()
    const server = await rawServer((socket) => socket.once('data', () => socket.end()))
    expect(await send(server.url)).toMatchObject({ kind: 'unreachable', code: 'reset' })
    expect(server.connections()).toBe(1)
  })

  test('within the body of a 200 is no delivery', async () => {
    const { send } = await senderForTest()
    receiver.on('/hook', closeMidResponse())
    expect(await send(`${receiver.url}/hook`)).toMatchObject({
      kind: 'unreachable',
      code: 'reset',
      detail: expect.stringContaining('status 200'),
    })
  })

  test('within the body of a 500 is that rejection', async () => {
    const { send } = await senderForTest()
    receiver.on('/hook', closeMidResponse({ status: 500 }))
    expect(await send(`${receiver.url}/hook`)).toMatchObject({
      kind: 'rejected',
      status: 500,
      truncated: true,
      body: Buffer.from('the first part'),
    })
  })

  test('on a chunked body without its last chunk is no delivery', async () => {
    const { send } = await senderForTest()
    const server = await rawServer(
      answering('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n', (socket) => socket.end()),
    )
    expect(await send(server.url)).toMatchObject({ kind: 'unreachable', code: 'reset' })
  })

  test('on a port where nobody listens is refused', async () => {
    const { send } = await senderForTest()
    const gone = await startReceiver()
    await gone.stop()
    expect(await send(`${gone.url}/hook`)).toMatchObject({
      kind: 'unreachable',
      code: 'connect_refused',
      detail: `127.0.0.1 port ${gone.port}: ECONNREFUSED`,
    })
  })
})

describe('what is not HTTP', () => {
  test.each([
    ['another protocol', 'SSH-2.0-OpenSSH_9.6\r\n'],
    ['an invalid status', 'HTTP/1.1 2x0 OK\r\n\r\n'],
    ['HTTP/2 unasked', Buffer.from('\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80', 'latin1')],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab'],
    ['a chunk without a size', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n'],
    ['headers without end', `HTTP/1.1 200 OK\r\n${`X-Long: ${'x'.repeat(1_000)}\r\n`.repeat(100)}`],
    ['an upgrade unasked', 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n'],
    ['100 Continue unasked', 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'],
  ])('%s is a protocol error', async (_what, bytes) => {
    const { send } = await senderForTest()
    const server = await rawServer(answering(bytes))
    expect(await send(server.url)).toMatchObject({ kind: 'unreachable', code: 'protocol_error' })
    expect(server.connections()).toBe(1)
    await until(() => server.open() === 0, { what: 'the connection to be closed' })
  })

  test('bytes behind a response are never taken for the next one', async () => {
    const { send } = await senderForTest()
    const server = await rawServer(
      answering('HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'),
    )
    expect(await send(server.url)).toMatchObject({ kind: 'rejected', status: 500 })
    expect(await send(server.url)).toMatchObject({ kind: 'rejected', status: 500 })
    expect(server.connections()).toBe(2)
  })

  test('early hints before the answer are passed over', async () => {
    const { send } = await senderForTest()
    const server = await rawServer(
      answering('HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'),
    )
    expect(await send(server.url)).toMatchObject({ kind: 'delivered', status: 200, body: Buffer.from('ok') })
  })
})
