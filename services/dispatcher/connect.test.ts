import { connect as connectTcp } from 'node:net'
import type { AddressInfo } from 'node:net'
import { createServer as createTlsServer, getCACertificates, setDefaultCACertificates } from 'node:tls'
import type { TlsOptions } from 'node:tls'
import { Worker } from 'node:worker_threads'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { until } from '../../test/support/poll.ts'
import { createConnector } from './connect.ts'
import type { Target } from './connect.ts'
import { createGuard } from './guard.ts'
import { testAuthority, testCertificate, testCertificateKey } from './test-certificates.ts'
import { rawServer } from './test-sender.ts'

const usual = getCACertificates('default')
beforeAll(() => setDefaultCACertificates([...usual, testAuthority]))
afterAll(() => setDefaultCACertificates(usual))

/** Names resolve to these addresses. Test networks are open, so that silence and refusal can be tried. */
function connector(addresses: readonly string[], timeoutMs = 1_000) {
  const connect = createConnector({
    guard: createGuard({ allowCidrs: ['127.0.0.1/32', '192.0.2.0/24', '::1/128'] }),
    resolver: { resolve: async () => ({ kind: 'resolved', addresses }) },
    monotonicMs: () => performance.now(),
    timeoutMs,
  })
  return async (target: Partial<Target>, signal = new AbortController().signal) => {
    const outcome = await connect({ hostname: 'receiver.test', port: 80, tls: false, ...target }, signal)
    if (outcome.kind === 'connected') onTestFinished(() => void outcome.socket.destroy())
    return outcome
  }
}

async function tlsServer(options: TlsOptions = {}) {
  const server = createTlsServer({ key: testCertificateKey, cert: testCertificate, ...options }, (socket) =>
    socket.on('error', () => {}),
  )
  server.on('tlsClientError', () => {})
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  return (server.address() as AddressInfo).port
}

async function closedPort(): Promise<number> {
  const server = createTlsServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** A port whose queue of connections is full: the kernel answers no more of them. */
async function deafPort(): Promise<number> {
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads')
    const server = require('node:net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
      parentPort.postMessage(server.address().port)
      setImmediate(() => Atomics.wait(new Int32Array(workerData), 0, 0))
    })`,
    { eval: true, workerData: new SharedArrayBuffer(4) },
  )
  const port = await new Promise<number>((resolve) => worker.once('message', resolve))
  const fillers = Array.from({ length: 8 }, () => connectTcp({ port, host: '127.0.0.1' }).on('error', () => {}))
  onTestFinished(async () => {
    for (const filler of fillers) filler.destroy()
    await worker.terminate()
  })
  await until(() => fillers.filter((filler) => !filler.connecting).length > 1, { what: 'the queue to fill' })
  return port
}

describe('addresses', () => {
  test('the next one is tried when one refuses or keeps silent', async () => {
    const server = await rawServer(() => {})
    const outcome = await connector(['192.0.2.1', '127.0.0.1'])({ port: server.port })
    expect(outcome).toMatchObject({ kind: 'connected', address: '127.0.0.1' })
  })

  test('that refuse, all of them, are refused with each reason', async () => {
    const outcome = await connector(['127.0.0.1', '127.0.0.1'])({ port: await closedPort() })
    expect(outcome).toMatchObject({
      kind: 'unreachable',
      code: 'connect_refused',
      detail: expect.stringMatching(/127\.0\.0\.1 .*ECONNREFUSED; 127\.0\.0\.1 .*ECONNREFUSED/),
    })
  })

  test('that keep silent end at the deadline, and nothing stays open', async () => {
    const port = await deafPort()
    const startMs = performance.now()
    expect(await connector(['127.0.0.1', '127.0.0.1'], 300)({ port })).toMatchObject({
      kind: 'unreachable',
      code: 'connect_timeout',
    })
    expect(performance.now() - startMs).toBeLessThan(1_500)
  })

  test('that keep silent are given up at once when told to stop', async () => {
    const port = await deafPort()
    const stop = new AbortController()
    const connecting = connector(['127.0.0.1'], 10_000)({ port }, stop.signal)
    stop.abort()
    expect(await connecting).toEqual({ kind: 'aborted' })
    expect(await connector(['127.0.0.1'])({ port }, stop.signal)).toEqual({ kind: 'aborted' })
  })

  test('of which only some are allowed are tried without the others', async () => {
    const server = await rawServer(() => {})
    expect(await connector(['10.0.0.1', '127.0.0.1', '169.254.169.254'])({ port: server.port })).toMatchObject({
      kind: 'connected',
      address: '127.0.0.1',
    })
    expect(await connector(['10.0.0.1', '169.254.169.254'])({ port: server.port })).toMatchObject({
      kind: 'blocked',
      code: 'address_private',
      detail: 'receiver.test: 10.0.0.1 is in 10.0.0.0/8',
    })
    expect(server.connections()).toBe(1)
  })
})

describe('TLS', () => {
  test('proves the name in the URL, and sends it as server name', async () => {
    const port = await tlsServer()
    const outcome = await connector(['127.0.0.1'])({ port, tls: true })
    expect(outcome).toMatchObject({
      kind: 'connected',
      address: '127.0.0.1',
      timings: { connectMs: expect.any(Number), tlsMs: expect.any(Number) },
    })
    expect(outcome).toHaveProperty('socket.servername', 'receiver.test')
    expect(outcome).toHaveProperty('socket.alpnProtocol', false)
  })

  test('proves an address when the URL has one', async () => {
    const port = await tlsServer()
    expect(await connector([])({ hostname: '127.0.0.1', port, tls: true })).toMatchObject({ kind: 'connected' })
  })

  test('never speaks HTTP/2, which it was offered', async () => {
    const port = await tlsServer({ ALPNProtocols: ['h2', 'http/1.1'] })
    expect(await connector(['127.0.0.1'])({ port, tls: true })).toHaveProperty('socket.alpnProtocol', 'http/1.1')
  })

  test("fails for another name than the certificate's", async () => {
    const port = await tlsServer()
    expect(await connector(['127.0.0.1'])({ hostname: 'other.test', port, tls: true })).toMatchObject({
      kind: 'unreachable',
      code: 'tls_failed',
      detail: expect.stringContaining('ERR_TLS_CERT_ALTNAME_INVALID'),
    })
  })

  test('fails for a certificate that nobody we trust has signed', async () => {
    setDefaultCACertificates(usual)
    onTestFinished(() => setDefaultCACertificates([...usual, testAuthority]))
    const port = await tlsServer()
    expect(await connector(['127.0.0.1'])({ port, tls: true })).toMatchObject({
      kind: 'unreachable',
      code: 'tls_failed',
      detail: expect.stringMatching(/UNABLE_TO|SELF_SIGNED/),
    })
  })

  test.each([
    ['speaks plain HTTP', 'HTTP/1.1 400 Bad Request\r\n\r\n'],
    ['hangs up', ''],
  ])('fails with a server that %s', async (_what, bytes) => {
    const server = await rawServer((socket) => socket.end(bytes))
    expect(await connector(['127.0.0.1'])({ port: server.port, tls: true })).toMatchObject({
      kind: 'unreachable',
      code: 'tls_failed',
    })
    await until(() => server.open() === 0, { what: 'the connection to be closed' })
  })

  test('with a server that says nothing ends at the deadline of the connection', async () => {
    const server = await rawServer(() => {})
    const startMs = performance.now()
    expect(await connector(['127.0.0.1'], 200)({ port: server.port, tls: true })).toMatchObject({
      kind: 'unreachable',
      code: 'connect_timeout',
    })
    expect(performance.now() - startMs).toBeLessThan(1_500)
    await until(() => server.open() === 0, { what: 'the connection to be closed' })
  })
})
