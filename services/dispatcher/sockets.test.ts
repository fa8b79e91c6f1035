import { Worker } from 'node:worker_threads'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { answer, delayed, hang } from '../../test/support/behaviours.ts'
import { until } from '../../test/support/poll.ts'
import { startReceiver } from '../../test/support/receiver.ts'
import type { Receiver } from '../../test/support/receiver.ts'
import { answering, rawServer, senderForTest } from './test-sender.ts'

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
beforeEach(async () => {
  await until(() => receiver.connections().open === 0, { what: 'the connections of the test before to be closed' })
  receiver.clear()
})
afterAll(() => receiver.stop())

const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'

/** Answers, and hangs up 50 ms later without a word before. In a thread of its own, so that it does while this one sleeps. */
async function hastyPort(): Promise<number> {
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads')
    const server = require('node:net').createServer((socket) => {
      socket.on('error', () => {})
      socket.once('data', () => socket.write(workerData, () => setTimeout(() => socket.end(), 50)))
    })
    server.listen(0, '127.0.0.1', () => parentPort.postMessage(server.address().port))`,
    { eval: true, workerData: ok },
  )
  onTestFinished(async () => void (await worker.terminate()))
  return new Promise((resolve) => worker.once('message', resolve))
}

describe('a socket', () => {
  test('is used again for its destination, and for no other', async () => {
    const { send } = await senderForTest()
    for (let i = 0; i < 5; i++) await send(`${receiver.url}/hook`)
    expect(receiver.connections().total).toBe(1)
    await send(`${receiver.url}/hook`, { destinationId: 'dst_2' })
    expect(receiver.connections().total).toBe(2)
  })

  test('is not used again when the server closes it after each answer', async () => {
    const { send } = await senderForTest()
    receiver.on('/hook', answer({ headers: [['Connection', 'close']] }))
    for (let i = 0; i < 3; i++) expect(await send(`${receiver.url}/hook`)).toMatchObject({ kind: 'delivered' })
    expect(receiver.connections().total).toBe(3)
  })

  test('that the server closed while it was idle is replaced, and no attempt is lost', async () => {
    const { send } = await senderForTest()
    const closers: Array<() => void> = []
    const server = await rawServer((socket) => {
      socket.on('data', () => socket.write(ok))
      closers.push(() => socket.end())
    })
    expect(await send(server.url)).toMatchObject({ kind: 'delivered' })
    closers[0]?.()
    await until(() => server.open() === 0, { what: 'the sender to close its side' })
    expect(await send(server.url)).toMatchObject({ kind: 'delivered' })
    expect(server.connections()).toBe(2)
  })

  test('whose end is on its way, unread, is replaced before a byte is written to it', async () => {
    const { send } = await senderForTest()
    const port = await hastyPort()
    expect(await send(`http://127.0.0.1:${port}/`)).toMatchObject({ kind: 'delivered' })
    // From a timer, so that the loop polls (and reads the end) before it writes; asleep until the end has come.
    const second = await new Promise((resolve) => {
      setTimeout(() => {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300)
        resolve(send(`http://127.0.0.1:${port}/`))
      })
    })
    expect(second).toMatchObject({ kind: 'delivered', timings: { connectMs: expect.any(Number) } })
  })

  test('that breaks under its second request is a reset: the request is not written again', async () => {
    const { send } = await senderForTest()
    let requests = 0
    const server = await rawServer((socket) => {
      socket.on('data', () => (++requests === 2 ? socket.resetAndDestroy() : socket.write(ok)))
    })
    expect(await send(server.url)).toMatchObject({ kind: 'delivered' })
    expect(await send(server.url)).toMatchObject({ kind: 'unreachable', code: 'reset' })
    expect(requests).toBe(2)
    expect(server.connections()).toBe(1)
    expect(await send(server.url)).toMatchObject({ kind: 'delivered' })
    expect(server.connections()).toBe(2)
  })

  test('is closed when the server announces that it soon will', async () => {
    const { send } = await senderForTest()
    const server = await rawServer(answering('HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 0\r\n\r\n'))
    await send(server.url)
    await until(() => server.open() === 0, { what: 'the connection to be closed' })
  })

  test('is replaced after five minutes of use', async () => {
    const { send, passMs } = await senderForTest()
    await send(`${receiver.url}/hook`)
    passMs(299_000)
    await send(`${receiver.url}/hook`)
    expect(receiver.connections().total).toBe(1)
    passMs(2_000)
    await send(`${receiver.url}/hook`)
    await send(`${receiver.url}/hook`)
    expect(receiver.connections().total).toBe(2)
  })
})

describe('a destination that hangs', () => {
  test('keeps no more than its share of sockets, and others on the same host none the less', async () => {
    const { send } = await senderForTest({ socketsMax: 8, socketsPerDestinationMax: 2, socketWaitTimeoutMs: 10_000 })
    receiver.on('/hang', hang())
    const stop = new AbortController()
    const hanging = Array.from({ length: 20 }, () =>
      send(`${receiver.url}/hang`, { destinationId: 'dst_hangs' }, { signal: stop.signal }),
    )
    await until(() => receiver.count('/hang') === 2, { what: 'its two sockets to be in use' })
    for (let i = 0; i < 20; i++)
      expect(await send(`${receiver.url}/well`, { destinationId: `dst_${i % 4}` })).toMatchObject({ kind: 'delivered' })
    expect(receiver.count('/hang')).toBe(2)
    stop.abort()
    const kinds = (await Promise.all(hanging)).map(({ kind }) => kind)
    expect(kinds.filter((kind) => kind === 'unreachable')).toHaveLength(2)
    expect(kinds.filter((kind) => kind === 'abandoned')).toHaveLength(18)
    expect(receiver.count('/hang')).toBe(2)
  })

  test('lets who waits for its sockets go after a while, without a failure to its name', async () => {
    const { send } = await senderForTest({ socketsPerDestinationMax: 1, socketWaitTimeoutMs: 100 })
    receiver.on('/hang', hang())
    const first = send(`${receiver.url}/hang`, { timeoutMs: 500 })
    expect(await send(`${receiver.url}/hang`)).toMatchObject({ kind: 'abandoned', code: 'no_socket' })
    expect(await first).toMatchObject({ kind: 'unreachable', code: 'timeout' })
  })
})

describe('the total of sockets', () => {
  test('is never exceeded: an idle socket of another destination is closed instead', async () => {
    const { send } = await senderForTest({ socketsMax: 3, socketsPerDestinationMax: 2 })
    for (let i = 0; i < 10; i++) {
      expect(await send(`${receiver.url}/hook`, { destinationId: `dst_${i}` })).toMatchObject({ kind: 'delivered' })
      await until(() => receiver.connections().open <= 3, { what: 'the evicted connection to be closed' })
    }
    expect(receiver.connections().total).toBe(10)
    await send(`${receiver.url}/hook`, { destinationId: 'dst_9' }) // the most recent ones were kept
    expect(receiver.connections().total).toBe(10)
  })

  test("is shared in turn when many destinations wait: none is starved by another's backlog", async () => {
    const { send } = await senderForTest({ socketsMax: 2, socketsPerDestinationMax: 2, socketWaitTimeoutMs: 20_000 })
    receiver.on('*', delayed(5))
    const order: string[] = []
    const sending: Promise<unknown>[] = []
    for (const destinationId of [...Array<string>(60).fill('dst_busy'), 'dst_a', 'dst_b']) {
      sending.push(
        send(`${receiver.url}/${destinationId}`, { destinationId }).then(({ kind }) =>
          order.push(`${destinationId} ${kind}`),
        ),
      )
    }
    await Promise.all(sending)
    expect(order).toHaveLength(62)
    expect(order.filter((entry) => !entry.endsWith(' delivered'))).toEqual([])
    expect(order.indexOf('dst_a delivered')).toBeLessThan(20)
    expect(order.indexOf('dst_b delivered')).toBeLessThan(20)
  })

  test('holds under load, with sockets closed by either side, and nothing is lost or sent twice', async () => {
    const { send } = await senderForTest({ socketsMax: 10, socketsPerDestinationMax: 3, socketWaitTimeoutMs: 20_000 })
    let most = 0
    let requests = 0
    receiver.on('*', (request, response) => {
      most = Math.max(most, receiver.connections().open)
      answer({ headers: requests++ % 7 === 0 ? [['Connection', 'close']] : [] })(request, response)
    })
    const outcomes = await Promise.all(
      Array.from({ length: 1_000 }, (_, i) => send(`${receiver.url}/${i}`, { destinationId: `dst_${i % 23}` })),
    )
    expect(outcomes.filter(({ kind }) => kind !== 'delivered')).toEqual([])
    expect(new Set(receiver.received().map(({ path }) => path)).size).toBe(1_000)
    expect(receiver.count()).toBe(1_000)
    // Even with every socket in use and others waiting, a connection serves several requests.
    expect(receiver.connections().total).toBeLessThan(500)
    // A socket that is closing here may be seen open there for a moment.
    expect(most).toBeLessThanOrEqual(20)
  })
})
