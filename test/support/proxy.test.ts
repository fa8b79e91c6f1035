import { connect, createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { once } from 'node:events'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { until } from './poll.ts'
import { startFaultProxy } from './proxy.ts'
import type { FaultProxy } from './proxy.ts'

/** A server that answers each line `x` with `did x`, and remembers what it was asked. */
let server: Server
let sockets: Set<Socket>
let asked: string[]
let serverEnds: number
let proxy: FaultProxy
let clients: Client[]

beforeEach(async () => {
  asked = []
  sockets = new Set()
  serverEnds = 0
  clients = []
  server = createServer((socket) => {
    sockets.add(socket)
    let rest = ''
    socket.on('data', (bytes) => {
      const lines = (rest + bytes.toString()).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) {
        asked.push(line)
        socket.write(`did ${line}\n`)
      }
    })
    socket.on('end', () => serverEnds++)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  proxy = await startFaultProxy({ host: '127.0.0.1', port: address.port })
})

afterEach(() => {
  for (const client of clients) client.socket.destroy()
  for (const socket of sockets) socket.destroy()
  proxy.stop()
  server.close()
})

type Client = {
  socket: Socket
  seen: string
  ended: boolean
  error: string | undefined
  closed: boolean
  ask(line: string): Promise<void>
}

async function newClient(): Promise<Client> {
  const socket = connect({ port: proxy.port, host: proxy.host, allowHalfOpen: true })
  const client: Client = {
    socket,
    seen: '',
    ended: false,
    error: undefined,
    closed: false,
    async ask(line) {
      socket.write(`${line}\n`)
      await until(() => client.seen.endsWith(`did ${line}\n`), { what: `the answer to ${line}` })
    },
  }
  socket.on('data', (bytes) => (client.seen += bytes.toString()))
  socket.on('end', () => (client.ended = true))
  socket.on('error', (error) => (client.error = 'code' in error ? String(error.code) : error.message))
  socket.on('close', () => (client.closed = true))
  clients.push(client)
  await once(socket, 'connect')
  return client
}

/** Long enough for loopback to have carried a byte a hundred times; for the tests that something does not happen. */
const quiet = () => new Promise((resolve) => setTimeout(resolve, 60))

describe('without faults', () => {
  it('carries both directions, and a graceful end', async () => {
    const client = await newClient()
    await client.ask('one')
    await client.ask('two')
    client.socket.end()
    await until(() => client.closed, { what: 'the close' })
    expect([client.seen, client.ended, client.error, serverEnds]).toEqual(['did one\ndid two\n', true, undefined, 1])
    expect(proxy.connections()).toEqual({ open: 0, total: 1 })
  })

  it('carries megabytes unharmed past a slow reader', async () => {
    const client = await newClient()
    const lines = Array.from({ length: 40 }, (_, n) => `${n}-`.padEnd(200_000, 'x'))
    client.socket.pause()
    for (const line of lines) client.socket.write(`${line}\n`)
    await until(() => asked.length > 0, { what: 'the first line' })
    client.socket.resume()
    await until(() => client.seen.length === 40 * 200_005, { what: 'all answers' })
    expect(client.seen).toBe(lines.map((line) => `did ${line}\n`).join(''))
  })

  it('resets the client when the server is not there', async () => {
    server.close()
    const client = await newClient()
    await until(() => client.closed, { what: 'the close' })
    expect(client.error).toBe('ECONNRESET')
  })
})

describe('latency', () => {
  it('delays each direction, keeps the order and loses nothing at the end', async () => {
    const client = await newClient()
    proxy.latency(40)
    const from = performance.now()
    client.socket.write('a\n')
    client.socket.write('b\n')
    client.socket.end('c\n')
    await until(() => client.closed, { what: 'the close' })
    expect(client.seen).toBe('did a\ndid b\ndid c\n')
    expect(performance.now() - from).toBeGreaterThanOrEqual(80)
  })

  it('delays a stream without thinning it', async () => {
    const client = await newClient()
    proxy.latency(50)
    const from = performance.now()
    for (let n = 0; n < 50; n++) {
      client.socket.write(`${n}\n`)
      await new Promise((resolve) => setImmediate(resolve))
    }
    await until(() => asked.length === 50, { what: '50 lines' })
    expect(performance.now() - from).toBeLessThan(1_000) // one after the other it would be 2,500
  })
})

describe('blackhole', () => {
  it('holds everything, says nothing, and goes on where it was when healed', async () => {
    const client = await newClient()
    await client.ask('before')
    proxy.blackhole()
    client.socket.write('during\n')
    const second = await newClient()
    second.socket.write('new\n')
    await quiet()
    expect([asked, client.closed, second.closed]).toEqual([['before'], false, false])
    await proxy.heal()
    await until(() => client.seen === 'did before\ndid during\n' && second.seen === 'did new\n', {
      what: 'the held bytes',
    })
  })

  it('hides from the server that its client has gone', async () => {
    const client = await newClient()
    await client.ask('before')
    proxy.blackhole()
    client.socket.resetAndDestroy()
    await quiet()
    expect(sockets.size).toBe(1)
    await proxy.heal()
    await until(() => sockets.size === 0, { what: 'the server to hear of it' })
  })
})

describe('faults of a connection', () => {
  it('resets both ends, and lets new connections pass', async () => {
    const client = await newClient()
    await client.ask('one')
    proxy.reset()
    await until(() => client.closed && sockets.size === 0, { what: 'both ends to be gone' })
    expect(client.error).toBe('ECONNRESET')
    await (await newClient()).ask('two')
  })

  it('leaves the client of a half-open connection writing into nothing', async () => {
    const client = await newClient()
    await client.ask('one')
    proxy.halfOpen()
    await until(() => sockets.size === 0, { what: 'the server side to die' })
    client.socket.write('two\n')
    await quiet()
    expect([asked, client.closed, client.ended, client.error]).toEqual([['one'], false, false, undefined])
    await (await newClient()).ask('three')
    client.socket.end()
    await until(() => client.closed, { what: 'the orphan to end when its client does' })
  })

  it('refuses new connections while open ones go on, and listens on the same port again', async () => {
    const client = await newClient()
    proxy.stopAccepting()
    await expect(newClient()).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    await client.ask('still here')
    await proxy.heal()
    await (await newClient()).ask('again')
  })
})

describe('cutAfter', () => {
  it('has the server do it and the client not know', async () => {
    const client = await newClient()
    await client.ask('BEGIN')
    const cut = proxy.cutAfter('COMMIT')
    client.socket.write('COMMIT\n')
    await until(() => client.closed, { what: 'the cut' })
    expect([asked, client.seen, client.error, cut.count()]).toEqual([
      ['BEGIN', 'COMMIT'],
      'did BEGIN\n',
      'ECONNRESET',
      1,
    ])
  })

  it('finds a pattern that lies across two chunks, and not the half of one', async () => {
    const client = await newClient()
    const cut = proxy.cutAfter('COMMIT')
    await client.ask('COMM')
    client.socket.write('x COM')
    await until(() => proxy.connections().open === 1, { what: 'nothing to break' })
    await quiet()
    expect(cut.count()).toBe(0)
    client.socket.write('MIT\n')
    await until(() => client.closed, { what: 'the cut' })
    expect([asked, cut.count()]).toEqual([['COMM', 'x COMMIT'], 1])
  })

  it('forwards the rest of the chunk and nothing after it', async () => {
    const client = await newClient()
    proxy.cutAfter('COMMIT')
    client.socket.write('COMMIT\nsame chunk\n')
    await until(() => client.closed, { what: 'the cut' })
    expect(asked).toEqual(['COMMIT', 'same chunk'])
  })

  it('cuts as many times as told, each time the pattern comes, and no other connection', async () => {
    const cut = proxy.cutAfter('COMMIT', { times: 2 })
    const bystander = await newClient()
    for (let n = 0; n < 2; n++) {
      const client = await newClient()
      client.socket.write('COMMIT\n')
      await until(() => client.closed, { what: `cut ${n + 1}` })
    }
    await (await newClient()).ask('COMMIT')
    await bystander.ask('BEGIN')
    expect(cut.count()).toBe(2)
  })

  it('does nothing once disarmed', async () => {
    const cut = proxy.cutAfter('COMMIT')
    cut.disarm()
    await (await newClient()).ask('COMMIT')
    expect(cut.count()).toBe(0)
  })
})

it('stop ends every connection and frees the port', async () => {
  const client = await newClient()
  proxy.stop()
  await until(() => client.closed && sockets.size === 0, { what: 'both ends to be gone' })
  await expect(newClient()).rejects.toMatchObject({ code: 'ECONNREFUSED' })
})
