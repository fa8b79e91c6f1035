import { randomBytes } from 'node:crypto'
import { createServer, request as httpRequest, type IncomingMessage } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterEach, expect, test } from 'vitest'
import { createBodyBudget, readBody, type BodyRead } from './body.ts'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

const cleanups: (() => void)[] = []
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup()
})

/** Reads one body as ingest does, of a request whose bytes the test writes. */
async function reading(bytesMax: number, budgetBytes = 1 << 30) {
  let held = 0
  let heldMax = 0
  const budget = createBodyBudget(budgetBytes, (bytes) => {
    held = bytes
    heldMax = Math.max(heldMax, bytes)
  })
  const read = Promise.withResolvers<BodyRead>()
  const server = createServer((request: IncomingMessage, response) => {
    void readBody(request, bytesMax, budget).then((outcome) => {
      read.resolve(outcome)
      response.end()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  cleanups.push(() => server.close().closeAllConnections())
  const { port } = server.address() as AddressInfo
  return { port, read: read.promise, held: () => held, heldMax: () => heldMax }
}

const body = randomBytes(200_000)
const head = 'POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n'

/** One HTTP chunk for each piece, so that each is a buffer of its own for the reader. */
function inChunks(of: Buffer, sizes: (n: number) => number): Buffer {
  const parts: Buffer[] = []
  for (let at = 0, n = 0; at < of.length; n++) {
    const chunk = of.subarray(at, at + sizes(n))
    parts.push(Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from('\r\n'))
    at += chunk.length
  }
  return Buffer.concat([...parts, Buffer.from('0\r\n\r\n')])
}

test.each([
  ['of one byte', () => 1],
  [
    'of every size, small after large and large after small',
    (n: number) => [1, 1_023, 1_024, 7, 20_000, 16_384, 3][n % 7] ?? 1,
  ],
])('a body in chunks %s is the same bytes', async (_what, sizes) => {
  const { port, read, held } = await reading(body.length)
  const socket = connect(port, '127.0.0.1')
  cleanups.push(() => socket.destroy())
  socket.end(Buffer.concat([Buffer.from(head), inChunks(body, sizes)]))
  const outcome = await read
  expect(outcome.kind === 'read' && outcome.body.equals(body)).toBe(true)
  if (outcome.kind === 'read') outcome.release()
  expect(held()).toBe(0)
})

test('a body in a hundred thousand chunks takes little more memory than its bytes, and all of that is counted', async () => {
  const { port, held } = await reading(body.length)
  const bytes = inChunks(body, () => 2)
  const before = usedBytes()
  const socket = connect(port, '127.0.0.1')
  cleanups.push(() => socket.destroy())
  // Without its end: all of it is held.
  socket.write(Buffer.concat([Buffer.from(head), bytes.subarray(0, -5)]))
  await expect.poll(held).toBeGreaterThanOrEqual(body.length)
  expect(held()).toBeLessThan(body.length + 2 * 16_384)
  // Kept one by one they are a hundred thousand objects: tens of megabytes.
  await expect.poll(() => usedBytes() - before).toBeLessThan(5 * 1_048_576)
})

function usedBytes(): number {
  collectGarbage()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

test('the head of a request is counted with its body, and given back with it', async () => {
  const { port, read, held } = await reading(10, 1_000)
  httpRequest({ port, method: 'POST', headers: { 'x-long': 'x'.repeat(500) } }).end('12345')
  const outcome = await read
  expect(held()).toBeGreaterThan(500)
  if (outcome.kind === 'read') outcome.release()
  expect(held()).toBe(0)
})

test('a request whose head has no room is refused before its body is read', async () => {
  const { port, read, held } = await reading(10, 400)
  httpRequest({ port, method: 'POST', headers: { 'x-long': 'x'.repeat(500) } })
    .on('error', () => {})
    .end('12345')
  expect(await read).toEqual({ kind: 'no_room' })
  expect(held()).toBe(0)
})
