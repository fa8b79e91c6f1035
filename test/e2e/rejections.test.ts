import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { soleHeader } from '@tenterhook/schemas/headers'
import { until } from '../support/poll.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { drained } from '../support/rows.ts'
import { send, sendRaw, signed } from '../support/send.ts'
import type { Answered } from '../support/send.ts'
import { sharedStack } from '../support/stack.ts'

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.stop())

const stack = sharedStack(() => ({
  config: {
    sources: {
      hub: { verification: { scheme: 'github', secret: 'k7-of-the-hub' } },
      pay: { verification: { scheme: 'stripe', secret: 'pay secret' } },
      small: { verification: { scheme: 'none' }, bodyBytesMax: 1_000 },
      flooded: { verification: { scheme: 'github', secret: 'flooded secret' } },
    },
    destinations: { all: { url: `${receiver.url}/all` } },
    connections: {
      hub: { source: 'hub', destination: 'all' },
      pay: { source: 'pay', destination: 'all' },
      small: { source: 'small', destination: 'all' },
      flooded: { source: 'flooded', destination: 'all' },
    },
  },
}))

/** Everything in this file is refused; what else arrives would have been let through. */
async function nothingArrived(): Promise<void> {
  await drained(stack().store)
  expect(receiver.received()).toEqual([])
}

function expectProblem(answer: Answered, status: number, code: string): void {
  expect({ status: answer.status, type: soleHeader(answer.headers, 'content-type'), json: answer.json }).toEqual({
    status,
    type: 'application/problem+json',
    json: { type: 'about:blank', title: expect.any(String), status, code, detail: expect.any(String) },
  })
}

type Rejection = {
  source_name: string
  code: string
  status: number
  method: string
  path: string
  body_bytes: number
  folded: number
  remote_address: string | null
  detail: string
}
type Where = { source?: string; path?: string }
async function rejections(code: string, { source, path }: Where = {}): Promise<Rejection[]> {
  const { rows } = await stack().store.durable.query<Rejection>(
    `SELECT source_name, code, status, method, path, body_bytes, folded, remote_address, detail FROM rejections
     WHERE code = $1 AND coalesce(source_name = $2, true) AND coalesce(path = $3, true) ORDER BY id`,
    [code, source ?? null, path ?? null],
  )
  return rows
}

function recorded(code: string, where: Where = {}): Promise<Rejection> {
  return until(async () => (await rejections(code, where))[0], { what: `a rejection ${code} to be recorded` })
}

// At once: each waits for its record, which ingest writes once a second, and one for a timeout of ten.
describe.concurrent('a request that is not accepted', () => {
  it('with a signature under another secret is 401, and recorded with its reason', async () => {
    const { headers, body } = signed(stack(), 'flooded', { headers: [['X-GitHub-Event', 'push']], body: '{"a":1}' })
    const answer = await send(stack(), 'hub', { headers, body, sign: false, rest: '/some/path' })
    expectProblem(answer, 401, 'signature_mismatch')
    expect(await recorded('signature_mismatch', { path: '/some/path' })).toEqual({
      source_name: 'hub',
      code: 'signature_mismatch',
      status: 401,
      method: 'POST',
      path: '/some/path',
      body_bytes: 7,
      folded: 0,
      remote_address: '127.0.0.1',
      detail: answer.json['detail'],
    })
    await nothingArrived()
  })

  it('whose body was changed after signing is 401', async () => {
    const { headers } = signed(stack(), 'hub', { body: '{"amount":1}' })
    expectProblem(
      await send(stack(), 'hub', { headers, body: '{"amount":100}', sign: false }),
      401,
      'signature_mismatch',
    )
    await nothingArrived()
  })

  it('without a signature is 401', async () => {
    expectProblem(await send(stack(), 'hub', { body: '{}', sign: false }), 401, 'signature_missing')
    await recorded('signature_missing', { source: 'hub' })
    await nothingArrived()
  })

  it('with the signature twice is 401: a second copy never decides', async () => {
    const { headers, body } = signed(stack(), 'hub', { body: '{}' })
    const answer = await send(stack(), 'hub', { headers: [...headers, ...headers], body, sign: false })
    expect(answer.status).toBe(401)
    await nothingArrived()
  })

  it('with a stale signature is 401', async () => {
    const answer = await send(stack(), 'pay', { body: '{"id":"evt_1"}', nowMs: Date.now() - 6 * 60_000 })
    expectProblem(answer, 401, 'timestamp_stale')
    await recorded('timestamp_stale', { source: 'pay' })
    await nothingArrived()
  })

  it('to a source that is not there is 404, and so is a path outside /in', async () => {
    expectProblem(await send(stack(), 'nobody', { body: '{}', sign: false }), 404, 'source_unknown')
    expect(await recorded('source_unknown')).toMatchObject({ source_name: 'nobody', status: 404 })
    expectProblem(
      await sendRaw(stack(), 'POST /out/hub HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n'),
      404,
      'not_found',
    )
    expect(await recorded('not_found', { path: '/out/hub' })).toMatchObject({ source_name: '', path: '/out/hub' })
  })

  it('by a method that the source does not take is 405 with Allow', async () => {
    const answer = await send(stack(), 'hub', { method: 'PUT', body: '{}' })
    expectProblem(answer, 405, 'method_not_allowed')
    expect(soleHeader(answer.headers, 'allow')).toBe('POST')
    expect(await recorded('method_not_allowed', { source: 'hub' })).toMatchObject({ method: 'PUT' })
    expectProblem(await send(stack(), 'hub', { method: 'DELETE' }), 405, 'method_not_allowed')
    expectProblem(await send(stack(), 'hub', { method: 'GET', sign: false }), 405, 'method_not_allowed')
    await nothingArrived()
  })

  it('with a body over the limit is 413, declared or not', async () => {
    expectProblem(await send(stack(), 'small', { body: 'x'.repeat(1_001) }), 413, 'body_too_large')
    const chunked = `POST /in/small HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${'190\r\n'.concat('y'.repeat(400), '\r\n').repeat(3)}`
    expectProblem(await sendRaw(stack(), chunked), 413, 'body_too_large')
    expect(await recorded('body_too_large', { source: 'small' })).toMatchObject({ status: 413 })
    await nothingArrived()
  })

  it('with more than 32 KiB of headers is 431', async () => {
    expectProblem(
      await sendRaw(stack(), `POST /in/hub HTTP/1.1\r\nHost: x\r\nX-Long: ${'h'.repeat(33_000)}\r\n\r\n`),
      431,
      'headers_too_large',
    )
    expect(await recorded('headers_too_large')).toMatchObject({ status: 431, source_name: '' })
  })

  it.each([
    ['nonsense', 'what is this?\r\n\r\n'],
    ['two lengths', 'POST /in/hub HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab'],
    [
      'a length and chunks',
      'POST /in/hub HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    ],
    ['a line break inside a header name', 'POST /in/hub HTTP/1.1\r\nHost: x\r\nX Y: 1\r\n\r\n'],
  ])('that is malformed (%s) is 400', async (_what, bytes) => {
    expectProblem(await sendRaw(stack(), bytes), 400, 'request_malformed')
    await recorded('request_malformed')
  })

  it('whose connection ends before its body does is recorded, and never an event', async () => {
    const { hostname, port } = new URL(stack().ingestUrl)
    const socket = connect({ host: hostname, port: Number(port) })
    socket.write('POST /in/small HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nonly this')
    await new Promise((resolve) => socket.once('ready', resolve))
    socket.end()
    expect(await recorded('body_incomplete')).toMatchObject({ source_name: 'small', body_bytes: 9 })
    socket.destroy()
    await nothingArrived()
  })

  it('whose headers come too slowly is 408', { timeout: 30_000 }, async () => {
    const answer = await sendRaw(stack(), 'POST /in/hub HTTP/1.1\r\nHost: x\r\nX-Slow: ')
    expectProblem(answer, 408, 'request_too_slow')
    expect(await recorded('request_too_slow')).toMatchObject({ status: 408 })
  })

  it('says nothing of secrets, and nothing that another request could use', async () => {
    const answer = await send(stack(), 'hub', {
      headers: [['X-Hub-Signature-256', `sha256=${'0'.repeat(64)}`]],
      body: '{}',
      sign: false,
    })
    expect(answer.text).not.toContain('k7-of-the-hub')
    const { headers } = signed(stack(), 'hub', { body: '{}' })
    expect(answer.text).not.toContain(soleHeader(headers, 'x-hub-signature-256')?.slice('sha256='.length))
    expect(soleHeader(answer.headers, 'x-powered-by')).toBeUndefined()
  })
})

describe('requests that are not accepted', () => {
  it('in a flood of thousands takes a handful of rows, each telling how many it stands for, and holds up no good one', async () => {
    const total = 3_000
    const bad = [
      ['X-GitHub-Event', 'push'],
      ['X-Hub-Signature-256', `sha256=${'0'.repeat(64)}`],
    ] as const
    const startedMs = performance.now()
    let left = total
    const refused: number[] = []
    const sender = async () => {
      while (left-- > 0)
        refused.push((await send(stack(), 'flooded', { headers: bad, body: '{}', sign: false })).status)
    }
    const flood = Promise.all(Array.from({ length: 32 }, sender))
    const good = await send(stack(), 'flooded', { headers: [['X-GitHub-Event', 'push']], body: '{"good":true}' })
    await flood
    const seconds = (performance.now() - startedMs) / 1_000
    expect(refused.filter((status) => status !== 401)).toEqual([])
    expect(good.status).toBe(200)
    const rows = await until(
      async () => {
        const all = await rejections('signature_mismatch', { source: 'flooded' })
        return all.reduce((sum, row) => sum + 1 + row.folded, 0) === total && all
      },
      { what: 'every refused request to be counted' },
    )
    // Five a second of one kind; a second that has begun, and one at each end.
    expect(rows.length).toBeLessThanOrEqual(5 * (Math.ceil(seconds) + 2))
    await drained(stack().store)
    expect(receiver.received().map(({ body }) => body.toString())).toEqual(['{"good":true}'])
  })
})
