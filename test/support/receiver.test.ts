import { createHash, randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { Agent, request } from 'undici'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  answer,
  closeMidResponse,
  delayed,
  drip,
  dripHeaders,
  endless,
  failing,
  hang,
  inTurn,
  redirect,
  reset,
} from './behaviours.ts'
import { until } from './poll.ts'
import { startReceiver } from './receiver.ts'
import type { Receiver } from './receiver.ts'

let receiver: Receiver
let agent: Agent

beforeEach(async () => {
  receiver = await startReceiver()
  agent = new Agent({ connections: 1, headersTimeout: 300, bodyTimeout: 300 })
})

afterEach(async () => {
  await agent.destroy()
  await receiver.stop()
})

const post = (path: string, body: Buffer | string = 'hello') =>
  request(`${receiver.url}${path}`, { method: 'POST', body, dispatcher: agent })

const status = async (path: string): Promise<number> => {
  const response = await post(path)
  await response.body.dump()
  return response.statusCode
}

describe('what is recorded', () => {
  it('keeps the bytes, the hash, the query and the headers in order with their repeats', async () => {
    const body = randomBytes(300_000)
    await request(`${receiver.url}/a/b?x=%20&y`, {
      method: 'PUT',
      body,
      headers: ['X-One', '1', 'x-two', '2', 'X-One', '3'],
      dispatcher: agent,
    })
    const [got] = receiver.received('/a/b')
    expect(got).toMatchObject({ method: 'PUT', path: '/a/b', query: 'x=%20&y', bytes: 300_000 })
    expect(got?.body.equals(body)).toBe(true)
    expect(got?.sha256).toBe(createHash('sha256').update(body).digest('hex'))
    expect(got?.headers.filter(([name]) => name.toLowerCase().startsWith('x-'))).toEqual([
      ['X-One', '1'],
      ['x-two', '2'],
      ['X-One', '3'],
    ])
  })

  it('keeps hash and size without the bytes when told so', async () => {
    const hashing = await startReceiver({ keep: 'hash' })
    try {
      await (await request(`${hashing.url}/x`, { method: 'POST', body: 'abc', dispatcher: agent })).body.dump()
      const [got] = hashing.received()
      expect(got).toMatchObject({ bytes: 3, sha256: createHash('sha256').update('abc').digest('hex') })
      expect(got?.body).toHaveLength(0)
    } finally {
      await hashing.stop()
    }
  })

  it('refuses to show a record that is not complete, and still counts', async () => {
    const small = await startReceiver({ requestsMax: 2 })
    try {
      for (let i = 0; i < 3; i++) await (await request(small.url, { method: 'POST', dispatcher: agent })).body.dump()
      expect(small.count()).toBe(3)
      expect(() => small.received()).toThrow('3 requests came, only 2 are kept')
      small.clear()
      expect(small.received()).toEqual([])
    } finally {
      await small.stop()
    }
  })

  it('counts a request that is broken off as aborted and not as received', async () => {
    const socket = connect(receiver.port, '127.0.0.1')
    socket.write('POST /half HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc')
    await until(() => receiver.connections().open === 1, { what: 'the connection' })
    socket.resetAndDestroy()
    await until(() => receiver.connections().aborted === 1, { what: 'the abort to be seen' })
    expect(receiver.count()).toBe(0)
  })

  it('counts connections, not requests', async () => {
    for (let i = 0; i < 5; i++) await status('/same')
    expect(receiver.connections()).toMatchObject({ open: 1, total: 1 })
    expect(receiver.count('/same')).toBe(5)
  })

  it('takes thousands of requests a second', async () => {
    const pool = new Agent({ connections: 32 })
    const from = performance.now()
    for (let round = 0; round < 20; round++) {
      await Promise.all(
        Array.from({ length: 100 }, async () =>
          (await request(`${receiver.url}/load`, { method: 'POST', body: 'x', dispatcher: pool })).body.dump(),
        ),
      )
    }
    await pool.destroy()
    expect(receiver.count('/load')).toBe(2_000)
    expect(performance.now() - from).toBeLessThan(2_000)
  })
})

describe('behaviours', () => {
  it('answers 200 where nothing was set', async () => {
    expect(await status('/any')).toBe(200)
  })

  it('answers with status, headers and body', async () => {
    receiver.on('/a', answer({ status: 429, headers: [['retry-after', '7']], body: 'slow down' }))
    const response = await post('/a')
    expect([response.statusCode, response.headers['retry-after'], await response.body.text()]).toEqual([
      429,
      '7',
      'slow down',
    ])
    receiver.on('/gone', answer({ status: 204 }))
    expect(await status('/gone')).toBe(204)
  })

  it('keeps the behaviours of paths apart, with * for the others', async () => {
    receiver.on('*', answer({ status: 503 }))
    receiver.on('/good', answer())
    expect([await status('/good'), await status('/other')]).toEqual([200, 503])
    receiver.clear()
    expect(await status('/other')).toBe(200)
  })

  it('fails n times, then succeeds', async () => {
    receiver.on('/f', failing(2, { status: 502 }))
    expect([await status('/f'), await status('/f'), await status('/f'), await status('/f')]).toEqual([
      502, 502, 200, 200,
    ])
  })

  it('takes turns and stays with the last', async () => {
    receiver.on('/t', inTurn(answer({ status: 500 }), answer({ status: 410 }), answer({ status: 201 })))
    expect([await status('/t'), await status('/t'), await status('/t'), await status('/t')]).toEqual([
      500, 410, 201, 201,
    ])
  })

  it('hangs until the sender gives up, and has recorded the request', async () => {
    receiver.on('/h', hang())
    await expect(post('/h')).rejects.toMatchObject({ code: 'UND_ERR_HEADERS_TIMEOUT' })
    expect(receiver.count('/h')).toBe(1)
  })

  it('answers after a delay', async () => {
    receiver.on('/d', delayed(80, answer({ status: 202 })))
    const from = performance.now()
    expect(await status('/d')).toBe(202)
    expect(performance.now() - from).toBeGreaterThanOrEqual(75)
  })

  it('drips a body that no idle timeout ends', async () => {
    receiver.on('/drip', drip({ everyMs: 20 }))
    const response = await post('/drip')
    let bytes = 0
    for await (const chunk of response.body) {
      bytes += (chunk as Buffer).length
      if (bytes >= 20) break // 400 ms of dripping: past the body timeout of 300
    }
    expect(bytes).toBeGreaterThanOrEqual(20)
    await until(() => receiver.connections().open === 0, { what: 'the dripping connection to close' })
  })

  it('drips the header block', async () => {
    receiver.on('/drip', dripHeaders({ everyMs: 10 }))
    const socket = connect(receiver.port, '127.0.0.1')
    let seen = ''
    socket.on('data', (chunk) => (seen += chunk.toString()))
    socket.write('POST /drip HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n')
    await until(() => /^HTTP\/1.1 200 OK\r\nx-slow: \.{3,}$/.test(seen), { what: 'three dripped bytes' })
    socket.destroy()
  })

  it('sends an endless body, as fast as it is read', async () => {
    receiver.on('/e', endless())
    const response = await post('/e')
    let bytes = 0
    for await (const chunk of response.body) {
      bytes += (chunk as Buffer).length
      if (bytes > 5_000_000) break
    }
    await until(() => receiver.connections().open === 0, { what: 'the endless connection to close' })
  })

  it('resets the connection in place of an answer', async () => {
    receiver.on('/r', reset())
    await expect(post('/r')).rejects.toMatchObject({ code: 'ECONNRESET' })
    expect(receiver.count('/r')).toBe(1)
  })

  it('closes in the middle of a response', async () => {
    receiver.on('/c', closeMidResponse())
    const response = await post('/c')
    expect(response.statusCode).toBe(200)
    await expect(response.body.text()).rejects.toThrow()
  })

  it('redirects', async () => {
    receiver.on('/from', redirect('/to'))
    const response = await post('/from')
    await response.body.dump()
    expect([response.statusCode, response.headers.location]).toEqual([307, '/to'])
    expect(receiver.count('/to')).toBe(0)
  })
})

it('stops although connections hang, and more than once', async () => {
  receiver.on('/h', hang())
  const waiting = post('/h').then(
    () => 'answered',
    () => 'broken',
  )
  await until(() => receiver.count('/h') === 1, { what: 'the request' })
  await Promise.all([receiver.stop(), receiver.stop()])
  expect(await waiting).toBe('broken')
  await expect(post('/h')).rejects.toMatchObject({ code: 'ECONNREFUSED' })
})
