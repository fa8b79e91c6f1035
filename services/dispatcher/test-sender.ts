/** Tests only: a sender over a DNS of the test's own, and servers that speak bytes. */
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { onTestFinished } from 'vitest'
import { startDnsServer } from '../../test/support/dns.ts'
import type { DnsAnswer, DnsQuestion } from '../../test/support/dns.ts'
import { createGuard } from './guard.ts'
import { createResolver } from './resolve.ts'
import { createSender } from './send.ts'
import type { Sender, SenderOptions, SendRequest } from './send.ts'

type Options = Partial<SenderOptions> & {
  /** Loopback is open unless a test says otherwise. */
  allowCidrs?: readonly string[]
  answerFor?: (question: DnsQuestion) => DnsAnswer
}

export async function senderForTest({
  allowCidrs = ['127.0.0.1/32'],
  answerFor = () => ({ addresses: ['127.0.0.1'] }),
  ...options
}: Options = {}) {
  const dns = await startDnsServer(answerFor)
  let passedMs = 0
  const monotonicMs = () => performance.now() + passedMs
  const guard = createGuard({ allowCidrs })
  const resolver = createResolver({ monotonicMs, servers: [dns.address], hostsPath: '/nowhere', timeoutMs: 500 })
  const sender = createSender({
    guard,
    resolver,
    monotonicMs,
    connectTimeoutMs: 500,
    socketsMax: 640,
    socketsPerDestinationMax: 64,
    ...options,
  })
  onTestFinished(async () => {
    sender.destroy()
    await sender.close()
    await dns.stop()
  })
  return { sender, dns, passMs: (ms: number) => (passedMs += ms), send: sendWith(sender) }
}

function sendWith(sender: Sender) {
  return (url: string, request: Partial<SendRequest> = {}, options?: Parameters<Sender['send']>[1]) =>
    sender.send(
      {
        destinationId: 'dst_1',
        method: 'POST',
        url,
        headers: [],
        body: Buffer.from('{}'),
        timeoutMs: 2_000,
        ...request,
      },
      options,
    )
}

/** A TCP server that hands over each connection as it comes; `bytes` collects what all of them received. */
export async function rawServer(onConnection: (socket: Socket) => void) {
  const sockets = new Set<Socket>()
  const received: Buffer[] = []
  let connections = 0
  const server = createServer((socket) => {
    connections++
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('data', (chunk) => received.push(chunk))
    socket.once('close', () => sockets.delete(socket))
    onConnection(socket)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
  })
  const { port } = server.address() as AddressInfo
  return {
    port,
    url: `http://127.0.0.1:${port}/`,
    connections: () => connections,
    open: () => sockets.size,
    text: () => Buffer.concat(received).toString('latin1'),
  }
}

/** Answers the first bytes of each request with these. */
export function answering(bytes: string | Buffer, then: (socket: Socket) => void = () => {}) {
  return (socket: Socket) => {
    socket.once('data', () => {
      socket.write(bytes)
      then(socket)
    })
  }
}
