import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { writeState } from '../local/home.ts'
import { consoleClient, reachConsole } from './console-client.ts'
import { withKey } from './replay.ts'

const program = 'npx tenterhook'
let home: string
let server: Server
let url: string
let answer: RequestListener
const stop = new AbortController().signal

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'console-client-'))
  server = createServer((request, response) => {
    request.resume()
    answer(request, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterEach(async () => {
  server.closeAllConnections()
  if (server.listening) await new Promise((resolve) => server.close(resolve))
  await rm(home, { recursive: true })
})

const client = () => consoleClient({ url, token: 'the-token', tokenFrom: 'a file', program, stop })
const shape = z.object({ id: z.string() })

function problem(status: number, code: string, detail: string): RequestListener {
  return (_request, response) => {
    response.writeHead(status, { 'content-type': 'application/problem+json' })
    response.end(JSON.stringify({ status, code, detail }))
  }
}

describe('the console', () => {
  test('gets the token, and each key', async () => {
    const seen: unknown[] = []
    answer = (request, response) => {
      seen.push([request.method, request.url, request.headers.authorization, request.headers['idempotency-key']])
      response.end('{"id":"x","more":1}')
    }
    expect(await client().get('/v1/x', shape)).toEqual({ id: 'x' })
    expect(await client().post('/v1/x/replay', { key: 'k' }, shape)).toEqual({ id: 'x' })
    expect(await client().download('/v1/x/body')).toEqual(Buffer.from('{"id":"x","more":1}'))
    expect(seen).toEqual([
      ['GET', '/v1/x', 'Bearer the-token', undefined],
      ['POST', '/v1/x/replay', 'Bearer the-token', 'k'],
      ['GET', '/v1/x/body', 'Bearer the-token', undefined],
    ])
  })

  test.each([
    ['refuses', problem(404, 'event_unknown', 'there is no event "x"'), 'refused_by_console', 'there is no event "x"'],
    [
      'takes no such token',
      problem(401, 'token_wrong', 'no'),
      'token_wrong',
      'does not take the admin token of a file: no',
    ],
    ['can’t serve', problem(503, 'store_unavailable', 'later'), 'console_unreachable', "can't serve now: later"],
    [
      'names a request that is a command here',
      problem(409, 'already_delivered', 'to send it again: POST /v1/events/evt_1/replay'),
      'refused_by_console',
      'to send it again: npx tenterhook replay evt_1',
    ],
    ['says escapes', problem(404, 'x', 'a\u001b[2J'), 'refused_by_console', 'a\\x1b[2J'],
  ])('that %s is told in one line', async (_, listener, code, message) => {
    answer = listener
    await expect(client().get('/v1/x', shape)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(message),
    })
  })

  test('that is something else is not taken for one', async () => {
    answer = (_request, response) => response.end('<html>')
    await expect(client().get('/v1/x', shape)).rejects.toThrow(`what answers at ${url} is no Tenterhook console`)
    answer = (_request, response) => response.writeHead(404).end('<html>')
    await expect(client().get('/v1/x', shape)).rejects.toThrow(`the console at ${url}: it answered 404`)
    answer = (_request, response) => response.writeHead(302, { location: '/elsewhere' }).end()
    await expect(client().get('/v1/x', shape)).rejects.toThrow('it answered 302')
  })

  test('that is away, or goes away, is told with the reason', async () => {
    answer = (request) => request.socket.destroy()
    await expect(client().get('/v1/x', shape)).rejects.toMatchObject({ code: 'console_unreachable' })
    server.close()
    await expect(client().get('/v1/x', shape)).rejects.toThrow(`the console at ${url} does not answer (ECONNREFUSED)`)
  })

  test('an answer that never came can be asked for again under the same key', async () => {
    answer = (request) => request.socket.destroy()
    const act = () => client().post('/v1/x/replay', { key: 'k' }, shape)
    await expect(withKey('k', act)).rejects.toThrow('it may have been done: repeat it with --key k')
    answer = problem(409, 'event_not_routed', 'not yet')
    await expect(withKey('k', act)).rejects.toThrow(/^not yet$/)
  })
})

describe('where it is, and its token', () => {
  const authorization = async (env: Record<string, string>) => {
    let seen: string | undefined
    answer = (request, response) => {
      seen = request.headers.authorization
      response.end('{"id":"x"}')
    }
    await (await reachConsole({ env, home, program })).get('/', shape)
    return seen
  }
  const running = { pid: process.pid, databaseUrl: '', redisUrl: '', ingestUrl: '', opsUrls: {} }

  test('come from the environment, else from the running copy', async () => {
    await writeFile(join(home, 'admin-token'), 'kept\n')
    await writeFile(join(home, 'another'), 'from a file\n')
    await writeState(home, { ...running, consoleUrl: url })
    expect(await authorization({})).toBe('Bearer kept')
    expect(await authorization({ TENTERHOOK_ADMIN_TOKEN_FILE: join(home, 'another') })).toBe('Bearer from a file')
    expect(await authorization({ TENTERHOOK_ADMIN_TOKEN: 'given', TENTERHOOK_CONSOLE_URL: `${url}/` })).toBe(
      'Bearer given',
    )
    await writeState(home, { ...running, consoleUrl: 'http://127.0.0.1:9' })
    expect(await authorization({ TENTERHOOK_CONSOLE_URL: url })).toBe('Bearer kept')
  })

  test('that are not known are asked for', async () => {
    await expect(reachConsole({ env: {}, home, program })).rejects.toThrow(`nothing runs in ${home}`)
    await expect(reachConsole({ env: { TENTERHOOK_CONSOLE_URL: 'x' }, home, program })).rejects.toThrow(
      'TENTERHOOK_CONSOLE_URL: expected a URL',
    )
    const env = { TENTERHOOK_CONSOLE_URL: url }
    await expect(reachConsole({ env, home, program })).rejects.toThrow(`there is no admin token in ${home}/admin-token`)
    await expect(
      reachConsole({ env: { ...env, TENTERHOOK_ADMIN_TOKEN_FILE: '/nowhere' }, home, program }),
    ).rejects.toThrow("/nowhere can't be read (ENOENT)")
  })
})
