import { createHmac } from 'node:crypto'
import { connect } from 'node:net'
import type { AddressInfo } from 'node:net'
import type { Server } from 'node:http'
import { gzipSync } from 'node:zlib'
import { afterEach, describe, expect, test } from 'vitest'
import { sourceSpec, type SourceInput } from '@tenterhook/schemas/source'
import type { SourceId } from '@tenterhook/schemas/ids'
import type { NewEvent } from '@tenterhook/store/accept'
import type { Source } from '@tenterhook/store/config'
import { createTracing } from '@tenterhook/telemetry/trace'
import { createLogger } from '@tenterhook/telemetry/log'
import { createBodyBudget } from './body.ts'
import type { CommitOutcome } from './group-commit.ts'
import type { Refusal } from './problem.ts'
import { receive, type Receipt } from './receive.ts'
import { createIngestServer } from './server.ts'
import { createSources } from './sources.ts'

/** The HTTP side as it is, with the commit in the test's hands. */
async function start(
  inputs: SourceInput[],
  options: {
    commit?: (event: NewEvent) => Promise<CommitOutcome>
    budgetBytes?: number
    answerTimeoutMs?: number
    readFails?: () => boolean
  } = {},
) {
  const events: NewEvent[] = []
  const kept: NewEvent[] = []
  const receipts: Receipt[] = []
  const refusals: Refusal[] = []
  const standing: Source[] = inputs.map((input, i) => ({
    id: `src_${i}` as SourceId,
    version: 1,
    managedBy: 'test',
    spec: sourceSpec.parse(input),
  }))
  let version = 1
  const sources = createSources({
    readVersion: async () => {
      if (options.readFails?.()) throw new Error('down')
      return version
    },
    read: async () => ({ version, sources: [...standing] }),
  })
  const clock = { nowMs: () => Date.now(), monotonicMs: () => performance.now() }
  const log = createLogger({ service: 'test', level: 'silent' })
  const tracing = await createTracing({ service: 'test', tracesUrl: undefined, sampleRatio: 1, log, clock })
  const server = createIngestServer({
    receive: (arrival) =>
      receive(arrival, {
        publicUrl: 'https://hooks.example',
        sources,
        groupCommit: {
          submit: async (event) => {
            events.push(event)
            return options.commit ? options.commit(event) : { kind: 'accepted' }
          },
          stop: async () => {},
        },
        keepDuplicate: async (_first, duplicate) => kept.push(duplicate),
        enqueue: () => {},
        tracing,
        nowMs: clock.nowMs,
        random: Math.random,
        answerTimeoutMs: options.answerTimeoutMs ?? 5_000,
        probe: () => {},
      }),
    report: (receipt) => receipts.push(receipt),
    reportRefusal: (refusal) => refusals.push(refusal),
    budget: createBodyBudget(options.budgetBytes ?? 1 << 20, () => {}),
    trustedProxies: [],
    monotonicMs: clock.monotonicMs,
    probe: () => {},
  })
  running.push(server)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const put = (source: SourceInput) => {
    const i = standing.findIndex((one) => one.spec.name === source.name)
    const next = {
      id: `src_${i < 0 ? standing.length : i}` as SourceId,
      version: version + 1,
      managedBy: 'test',
      spec: sourceSpec.parse(source),
    }
    if (i < 0) standing.push(next)
    else standing[i] = next
    version += 1
  }
  return { url: `http://127.0.0.1:${port}`, port, events, kept, receipts, refusals, put }
}

const running: Server[] = []
afterEach(async () => {
  for (const server of running.splice(0)) {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
})

/** Bytes as they go over the wire, and what comes back until the other side closes. */
function raw(port: number, bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes))
    let answer = ''
    socket.on('data', (chunk) => (answer += chunk.toString('latin1')))
    socket.on('close', () => resolve(answer))
    socket.on('error', reject)
  })
}

const open: SourceInput = { name: 'open', verification: { scheme: 'none' } }
const github = (secret: string): SourceInput => ({
  name: 'github',
  verification: { scheme: 'github', secrets: [secret] },
})
const signed = (secret: string, body: string) => ({
  'x-hub-signature-256': `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`,
})

describe('a request to a source', () => {
  test('is kept as it came: raw bytes, raw target, headers in order', async () => {
    const { url, events } = await start([open])
    const body = gzipSync('{"a":1}')
    const response = await fetch(`${url}/in/open/a%2Fb/../c?x=%20&x=2`, {
      method: 'POST',
      body,
      headers: { 'content-encoding': 'gzip', 'content-type': 'application/json', 'x-one': '1' },
    })
    expect(response.status).toBe(200)
    expect(await response.json()).toEqual({ id: events[0]?.id })
    expect(events[0]?.body.equals(body)).toBe(true)
    const answer = await raw(
      Number(new URL(url).port),
      'POST /in/open/%zz/..//x?q=%e4&&a HTTP/1.1\r\nHost: h\r\nX-B: 1\r\nx-b: 2\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok',
    )
    expect(answer).toMatch(/^HTTP\/1\.1 200 /)
    expect(events[1]).toMatchObject({ path: '/%zz/..//x', query: 'q=%e4&&a' })
    expect(JSON.parse(events[1]?.headers ?? '')).toEqual([
      ['Host', 'h'],
      ['X-B', '1'],
      ['x-b', '2'],
      ['Content-Length', '2'],
      ['Connection', 'close'],
    ])
  })

  test('a secret that was rotated a moment ago is known before anyone is told 401', async () => {
    const { url, put } = await start([github('old')])
    const send = (secret: string) =>
      fetch(`${url}/in/github`, { method: 'POST', body: '{}', headers: signed(secret, '{}') })
    expect((await send('old')).status).toBe(200)
    expect((await send('new')).status).toBe(401)
    put(github('new'))
    expect((await send('new')).status).toBe(200)
    expect((await send('old')).status).toBe(401)
  })

  test('a source that was made a moment ago is known before anyone is told 404', async () => {
    const { url, put } = await start([])
    expect((await fetch(`${url}/in/open`, { method: 'POST' })).status).toBe(404)
    put(open)
    expect((await fetch(`${url}/in/open`, { method: 'POST' })).status).toBe(200)
  })

  test('when the configuration can not be asked, an unknown source or signature is answered 503, never 404 or 401', async () => {
    let down = false
    const { url } = await start([github('s')], { readFails: () => down })
    expect((await fetch(`${url}/in/github`, { method: 'POST', body: '{}', headers: signed('s', '{}') })).status).toBe(
      200,
    )
    down = true
    const unknown = await fetch(`${url}/in/nobody`, { method: 'POST' })
    const unsigned = await fetch(`${url}/in/github`, { method: 'POST', body: '{}' })
    expect([unknown.status, unsigned.status]).toEqual([503, 503])
    expect(Number(unknown.headers.get('retry-after'))).toBeGreaterThan(0)
  })

  test('a bearer token that verified it is not kept', async () => {
    const { url, events } = await start([{ name: 'crm', verification: { scheme: 'bearer', secret: 'tok-123456' } }])
    const response = await fetch(`${url}/in/crm`, {
      method: 'POST',
      body: '{}',
      headers: { authorization: 'Bearer tok-123456' },
    })
    expect(response.status).toBe(200)
    expect(events[0]?.headers).not.toContain('tok-123456')
    expect(events[0]?.headers).toContain('authorization')
  })

  test('a secret in the query is not kept either', async () => {
    const { url, events } = await start([
      { name: 'q', verification: { scheme: 'query', secret: 'tok-123456', parameter: 'key' } },
    ])
    expect((await fetch(`${url}/in/q?a=1&key=tok-123456&b=%20`, { method: 'POST', body: '{}' })).status).toBe(200)
    expect(events[0]?.query).toBe('a=1&key=[redacted]&b=%20')
  })
})

describe('answers', () => {
  test('a duplicate is answered with the first id; one with other bytes only after it was kept', async () => {
    const { url, kept } = await start([open], {
      commit: async () => ({ kind: 'duplicate', firstId: 'evt_first' as never, differs: true }),
    })
    const response = await fetch(`${url}/in/open`, { method: 'POST', body: 'other' })
    expect(await response.json()).toEqual({ id: 'evt_first', duplicate: true })
    expect(kept).toHaveLength(1)
  })

  test.each([
    ['unavailable', { kind: 'unavailable', reason: 'commit_failed' }, 503],
    ['refused', { kind: 'refused', detail: 'bad data' }, 500],
  ] as const)('%s is never a 2xx', async (_what, outcome, status) => {
    const { url } = await start([open], { commit: async () => outcome })
    const response = await fetch(`${url}/in/open`, { method: 'POST', body: '{}' })
    expect(response.status).toBe(status)
    expect(response.headers.get('content-type')).toBe('application/problem+json')
    if (status === 503) expect(response.headers.get('retry-after')).toMatch(/^[1-5]$/)
  })

  test('senders that are refused together are told to return apart: whole seconds from one to five, each about as often', async () => {
    const { url } = await start([open], { commit: async () => ({ kind: 'unavailable', reason: 'buffer_full' }) })
    const answers = await Promise.all(Array.from({ length: 200 }, () => fetch(`${url}/in/open`, { method: 'POST' })))
    const told = Object.groupBy(answers, (answer) => answer.headers.get('retry-after') ?? 'nothing')
    expect(Object.keys(told).toSorted()).toEqual(['1', '2', '3', '4', '5'])
    for (const some of Object.values(told)) expect(some?.length).toBeGreaterThan(15)
  })

  test('Slack’s challenge comes back as plain text', async () => {
    const { url, events } = await start([{ name: 'slack', verification: { scheme: 'slack', secrets: ['s'] } }])
    const body = JSON.stringify({ type: 'url_verification', challenge: 'c<h>al' })
    const timestamp = String(Math.floor(Date.now() / 1_000))
    const signature = createHmac('sha256', 's').update(`v0:${timestamp}:${body}`).digest('hex')
    const response = await fetch(`${url}/in/slack`, {
      method: 'POST',
      body,
      headers: { 'x-slack-request-timestamp': timestamp, 'x-slack-signature': `v0=${signature}` },
    })
    expect([response.status, response.headers.get('content-type'), await response.text()]).toEqual([
      200,
      'text/plain; charset=utf-8',
      'c<h>al',
    ])
    expect(events).toEqual([])
  })

  test('a source may choose its own status and body', async () => {
    const { url } = await start([{ ...open, response: { status: 202, contentType: 'text/plain', body: 'thanks' } }])
    const response = await fetch(`${url}/in/open`, { method: 'POST' })
    expect([response.status, response.headers.get('content-type'), await response.text()]).toEqual([
      202,
      'text/plain',
      'thanks',
    ])
  })
})

describe('refusals', () => {
  test.each([
    ['an unknown source', '/in/nobody', 'POST', 404, 'source_unknown'],
    ['another path', '/other', 'POST', 404, 'not_found'],
    ['another method', '/in/open', 'PUT', 405, 'method_not_allowed'],
  ])('%s', async (_what, path, method, status, code) => {
    const { url } = await start([open])
    const response = await fetch(url + path, { method })
    expect(response.status).toBe(status)
    expect(await response.json()).toMatchObject({ status, code })
    if (status === 405) expect(response.headers.get('allow')).toBe('POST')
  })

  test('a body over the limit, declared or not, is 413, and the connection closes', async () => {
    const { url, port, receipts } = await start([{ ...open, bodyBytesMax: 10 }])
    expect((await fetch(`${url}/in/open`, { method: 'POST', body: '12345678901' })).status).toBe(413)
    expect((await fetch(`${url}/in/open`, { method: 'POST', body: '1234567890' })).status).toBe(200)
    const chunked = await raw(
      port,
      'POST /in/open HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n',
    )
    expect(chunked).toMatch(/^HTTP\/1\.1 413 /)
    expect(receipts.filter((receipt) => receipt.kind === 'rejected')).toHaveLength(2)
  })

  test('what has no room in memory is 503, and room comes back', async () => {
    const held = Promise.withResolvers<CommitOutcome>()
    const body = 'x'.repeat(10_000)
    const { url } = await start([open], { budgetBytes: 15_000, commit: () => held.promise })
    const first = fetch(`${url}/in/open`, { method: 'POST', body })
    await expect.poll(async () => (await fetch(`${url}/in/open`, { method: 'POST', body })).status).toBe(503)
    held.resolve({ kind: 'accepted' })
    expect((await first).status).toBe(200)
    expect((await fetch(`${url}/in/open`, { method: 'POST', body })).status).toBe(200)
  })

  test('a request is answered in time whatever hangs, and its bytes stay counted until they are let go', async () => {
    const held = Promise.withResolvers<CommitOutcome>()
    const body = 'x'.repeat(10_000)
    const { url } = await start([open], { budgetBytes: 15_000, answerTimeoutMs: 50, commit: () => held.promise })
    const late = await fetch(`${url}/in/open`, { method: 'POST', body })
    expect([late.status, await late.json()]).toMatchObject([503, { code: 'answer_timeout' }])
    expect(late.headers.get('retry-after')).toMatch(/^[1-5]$/)
    const second = await fetch(`${url}/in/open`, { method: 'POST', body })
    expect([second.status, await second.json()]).toMatchObject([503, { code: 'buffer_full' }])
    held.resolve({ kind: 'accepted' })
    await expect.poll(async () => (await fetch(`${url}/in/open`, { method: 'POST', body })).status).toBe(200)
  })

  test.each([
    ['bytes that are no HTTP', 'nonsense\r\n\r\n', 400, 'request_malformed'],
    [
      'headers without end',
      `POST /in/open HTTP/1.1\r\nHost: h\r\nX-Long: ${'x'.repeat(40_000)}\r\n\r\n`,
      431,
      'headers_too_large',
    ],
  ])('%s get the same form of answer', async (_what, bytes, status, code) => {
    const { port, refusals } = await start([open])
    const answer = await raw(port, bytes)
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `))
    expect(JSON.parse(answer.slice(answer.indexOf('\r\n\r\n')))).toMatchObject({ status, code })
    expect(refusals).toMatchObject([{ status, code }])
  })

  test('a request without Host is taken as it is, an unknown expectation is refused in the same form', async () => {
    const { port, events } = await start([open])
    expect(await raw(port, 'POST /in/open HTTP/1.1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok')).toMatch(
      /^HTTP\/1\.1 200 /,
    )
    expect(events).toHaveLength(1)
    const answer = await raw(
      port,
      'POST /in/open HTTP/1.1\r\nHost: h\r\nExpect: tea\r\nContent-Length: 0\r\nConnection: close\r\n\r\n',
    )
    expect(answer).toMatch(/^HTTP\/1\.1 417 /)
    expect(answer).toContain('"expectation_unknown"')
  })

  test('a 401 says how to authenticate where the scheme is one of HTTP', async () => {
    const { url } = await start([
      { name: 'basic', verification: { scheme: 'basic', secret: 'user:pass' } },
      { name: 'bearer', verification: { scheme: 'bearer', secret: 'tok' } },
      github('s'),
    ])
    const challenge = async (source: string) =>
      (await fetch(`${url}/in/${source}`, { method: 'POST', body: '{}' })).headers.get('www-authenticate')
    expect(await challenge('basic')).toBe('Basic realm="basic", charset="UTF-8"')
    expect(await challenge('bearer')).toBe('Bearer')
    expect(await challenge('github')).toBeNull()
  })

  test('a sender that leaves in the middle of its body is recorded, and nothing is kept', async () => {
    const { port, receipts, events } = await start([open])
    const socket = connect(port, '127.0.0.1', () => {
      socket.write('POST /in/open HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n123')
      setTimeout(() => socket.destroy(), 30)
    })
    await expect.poll(() => receipts).toMatchObject([{ kind: 'rejected', refusal: { code: 'body_incomplete' } }])
    expect(events).toEqual([])
  })
})
