import { connect } from 'node:net'
import { once } from 'node:events'
import { expect, onTestFinished, test } from 'vitest'
import { exchange } from './exchange.ts'
import { createSockets } from './sockets.ts'
import { rawServer } from './test-sender.ts'

test('a stop that came before it began ends it at once, and nothing is written', async () => {
  const server = await rawServer(() => {})
  const socket = connect(server.port, '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  await once(socket, 'connect')
  const monotonicMs = () => performance.now()
  const line = createSockets({ monotonicMs, socketsMax: 1, socketsPerShareMax: 1, waitTimeoutMs: 1_000 }).createLine(
    server.url,
    socket,
    '127.0.0.1',
  )
  const exchanged = exchange(line, {
    method: 'POST',
    path: '/',
    headers: [],
    body: Buffer.from('x'),
    signal: AbortSignal.abort('timeout'),
    monotonicMs,
    mayWrite: () => true,
  })
  expect(await exchanged).toMatchObject({ end: 'stopped', written: false, response: undefined })
  expect(server.text()).toBe('')
})
