import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { testAuthority, testCertificate, testCertificateKey } from './test-certificates.ts'
import { senderForTest } from './test-sender.ts'

const usual = getCACertificates('default')
let port = 0
let connections = 0
let requests: string[] = []
const server = createServer({ key: testCertificateKey, cert: testCertificate }, (request, response) => {
  requests.push(`${request.method} ${request.headers.host}${request.url}`)
  request.resume().on('end', () => response.end('ok'))
})

beforeAll(async () => {
  server.on('connection', () => connections++)
  server.on('tlsClientError', () => {})
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  port = (server.address() as AddressInfo).port
})
beforeEach(() => {
  connections = 0
  requests = []
  setDefaultCACertificates([...usual, testAuthority])
})
afterEach(() => setDefaultCACertificates(usual))
afterAll(() => {
  server.closeAllConnections()
  server.close()
})

test('deliveries over TLS share a connection, and the first one times the handshake', async () => {
  const { send } = await senderForTest()
  const first = await send(`https://receiver.test:${port}/a?b=1`)
  expect(first).toMatchObject({
    kind: 'delivered',
    body: Buffer.from('ok'),
    timings: { dnsMs: expect.any(Number), connectMs: expect.any(Number), tlsMs: expect.any(Number) },
  })
  expect(await send(`https://receiver.test:${port}/c`)).toMatchObject({ kind: 'delivered' })
  expect(connections).toBe(1)
  expect(requests).toEqual([`POST receiver.test:${port}/a?b=1`, `POST receiver.test:${port}/c`])
})

test('a certificate that is not to be trusted gets no request', async () => {
  setDefaultCACertificates(usual)
  const { send } = await senderForTest()
  expect(await send(`https://receiver.test:${port}/`)).toMatchObject({
    kind: 'unreachable',
    code: 'tls_failed',
    address: '127.0.0.1',
  })
  expect(connections).toBe(1)
  expect(requests).toEqual([])
})

test('a certificate for another name gets no request', async () => {
  const { send } = await senderForTest()
  expect(await send(`https://other.test:${port}/`)).toMatchObject({ kind: 'unreachable', code: 'tls_failed' })
  expect(requests).toEqual([])
})
