import { once } from 'node:events'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { createReceiver, type Received } from './receiver.ts'

let server: Server
let url: string

beforeEach(async () => {
  server = createReceiver({ now: () => new Date('2026-01-02T03:04:05.678Z') }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})

afterEach(async () => {
  server.closeAllConnections()
  server.close()
  await once(server, 'close')
})

const post = (path: string, body: string | Buffer) =>
  fetch(url + path, { method: 'POST', body: new Uint8Array(Buffer.from(body)), headers: { 'x-mine': 'yes' } })
const received = async () => (await (await fetch(`${url}/received`)).json()) as Received[]

describe('the demo receiver', () => {
  it('says ok, and lists what it got byte for byte', async () => {
    const bytes = Buffer.from([0, 255, 10, 128])
    const response = await post('/accounting?a=1', bytes)
    expect(await response.json()).toEqual({ ok: true })
    expect(await received()).toEqual([
      {
        path: '/accounting',
        method: 'POST',
        headers: expect.objectContaining({ 'x-mine': 'yes' }),
        body: bytes.toString('base64'),
        time: '2026-01-02T03:04:05.678Z',
        status: 200,
      },
    ])
  })

  it('refuses the first request to /crm and takes every later one', async () => {
    const statuses = []
    for (const body of ['1', '2', '3']) statuses.push((await post('/crm', body)).status)
    expect(statuses).toEqual([503, 200, 200])
    expect((await received()).map(({ status }) => status)).toEqual([503, 200, 200])
  })

  it('plays all seven destinations and no other', async () => {
    for (const path of ['/accounting', '/web', '/pos', '/chat', '/project', '/campaigns'])
      expect((await post(path, '')).status).toBe(200)
    expect((await post('/elsewhere', '')).status).toBe(404)
    expect((await received()).length).toBe(6)
  })

  it('forgets on DELETE', async () => {
    await post('/chat', 'x')
    await fetch(`${url}/received`, { method: 'DELETE' })
    expect(await received()).toEqual([])
  })

  it('remembers the last ten thousand', async () => {
    for (const early of ['0', '1', '2']) await post('/pos', early)
    const together = 100
    for (let number = 0; number < 10_000; number += together)
      await Promise.all(Array.from({ length: together }, () => post('/pos', 'later')))
    const bodies = (await received()).map(({ body }) => Buffer.from(body, 'base64').toString())
    expect(bodies.length).toBe(10_000)
    expect(new Set(bodies)).toEqual(new Set(['later']))
  }, 30_000)

  it('refuses a body above its bound and remembers nothing of it', async () => {
    const outcome = await post('/web', Buffer.alloc(3 * 1024 * 1024)).then(
      ({ status }) => status,
      () => 'cut',
    )
    expect([413, 'cut']).toContain(outcome)
    expect(await received()).toEqual([])
  })
})
