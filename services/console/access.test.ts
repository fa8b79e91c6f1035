import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import {
  adminTokenOfTests as token,
  openTestDatabase,
  startTestConsole,
  type TestConsole,
  type TestDatabase,
} from './console.fixture.ts'

let database: TestDatabase
let running: TestConsole
beforeAll(async () => {
  database = await openTestDatabase()
})
afterAll(() => database.discard())
// A console for each test: wrong tries are counted for as long as it runs.
beforeEach(async () => {
  running = await startTestConsole(database)
})
afterEach(() => running.stop())

const asBrowser = { Accept: 'text/html,application/xhtml+xml' }

function signIn(given: string, headers: Record<string, string> = {}, to = '/', console = running) {
  return console.request('/sign-in', { method: 'POST', headers, body: new URLSearchParams({ token: given, to }) })
}

function cookieOf(answer: { headers: Headers }): string {
  return answer.headers.get('set-cookie')?.split(';')[0] ?? ''
}

async function sessionCookie(console = running): Promise<string> {
  return cookieOf(await signIn(token, {}, '/', console))
}

describe('a program', () => {
  test.each([
    '/',
    '/v1/events',
    '/v1/nowhere',
    '/queues',
    '/queues/api/queues',
    '/queues/static/css/main.css',
    '/sign-out',
    '/nowhere',
  ])('gets 401 at %s without the token', async (path) => {
    const answer = await running.get(path, {})
    expect(answer.status).toBe(401)
    expect(answer.headers.get('content-type')).toBe('application/problem+json')
    expect(answer.headers.get('www-authenticate')).toMatch(/^Bearer /)
    expect(answer.json).toMatchObject({ status: 401, code: 'token_missing', title: 'Unauthorized' })
  })

  test.each([`Bearer ${token}x`, `Bearer ${token.slice(1)}`, 'Bearer x'])('gets 401 with %s', async (authorization) => {
    const answer = await running.get('/v1/events', { Authorization: authorization })
    expect(answer).toMatchObject({ status: 401, json: { code: 'token_wrong' } })
  })

  test('is not let in with the token as a password, in the query or in a cookie', async () => {
    const basic = Buffer.from(`admin:${token}`).toString('base64')
    expect((await running.get('/v1/events', { Authorization: `Basic ${basic}` })).status).toBe(401)
    expect((await running.get(`/v1/events?token=${token}`, {})).status).toBe(401)
    expect((await running.get('/v1/events', { Cookie: `token=${token}` })).status).toBe(401)
  })

  test('reads and acts with the token, from any origin', async () => {
    expect((await running.get('/v1/events')).status).toBe(200)
    expect(
      (await running.post('/v1/destinations/none/pause', undefined, { Origin: 'https://elsewhere.example' })).status,
    ).toBe(404)
  })

  test('that keeps sending wrong tokens is refused unheard, and a session is not', async () => {
    const cookie = await sessionCookie()
    for (let i = 0; i < 10; i++)
      expect((await running.get('/v1/events', { Authorization: 'Bearer wrong' })).status).toBe(401)
    const refused = await running.get('/v1/events')
    expect(refused).toMatchObject({ status: 429, json: { code: 'tries_used_up' } })
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    expect((await signIn(token)).status).toBe(429)
    expect((await running.get('/v1/events', { Cookie: cookie })).status).toBe(200)
  })

  test('is heard no more than ten times however many of its wrong tries come at once', async () => {
    const answers = await Promise.all(
      Array.from({ length: 40 }, () => running.get('/v1/events', { Authorization: 'Bearer wrong' })),
    )
    expect(answers.filter(({ status }) => status === 401)).toHaveLength(10)
    expect(answers.filter(({ status }) => status === 429)).toHaveLength(30)
  })
})

describe('a browser', () => {
  test('is led to the sign-in page, and from there to where it wanted to go', async () => {
    const first = await running.get('/v1/events?limit=2', asBrowser)
    expect(first.status).toBe(303)
    expect(first.headers.get('location')).toBe(`/sign-in?to=${encodeURIComponent('/v1/events?limit=2')}`)
    const page = await running.get(first.headers.get('location') ?? '', asBrowser)
    expect(page.status).toBe(200)
    expect(page.text).toContain('name="to" value="/v1/events?limit=2"')
    expect(page.text).toContain('<label for="token">')
    const signedIn = await signIn(token, {}, '/v1/events?limit=2')
    expect(signedIn.status).toBe(303)
    expect(signedIn.headers.get('location')).toBe('/v1/events?limit=2')
    expect((await running.get('/v1/events?limit=2', { ...asBrowser, Cookie: cookieOf(signedIn) })).status).toBe(200)
    const home = await running.get('/', { ...asBrowser, Cookie: cookieOf(signedIn) })
    expect(home.text).toContain('href="/queues"')
  })

  test('gets a cookie that scripts and other sites cannot reach', async () => {
    expect((await signIn(token)).headers.get('set-cookie')).toMatch(/; HttpOnly; SameSite=Strict$/)
  })

  test('gets a Secure cookie when it came over HTTPS, by the word of a trusted proxy only', async () => {
    expect((await signIn(token, { 'X-Forwarded-Proto': 'https' })).headers.get('set-cookie')).not.toContain('Secure')
    const behindProxy = await startTestConsole(database, { TENTERHOOK_TRUSTED_PROXIES: '127.0.0.1/32,::1/128' })
    try {
      expect(
        (await signIn(token, { 'X-Forwarded-Proto': 'https' }, '/', behindProxy)).headers.get('set-cookie'),
      ).toContain('; Secure')
    } finally {
      await behindProxy.stop()
    }
  })

  test('is told on the page when the token is wrong, and gets no cookie', async () => {
    const answer = await signIn('wrong<script>')
    expect(answer.status).toBe(401)
    expect(answer.headers.get('set-cookie')).toBeNull()
    expect(answer.text).toContain('role="alert"')
    expect(answer.text).not.toContain('<script>')
  })

  test.each([
    'https://evil.example/',
    '//evil.example/',
    '/\\evil.example',
    '/.//evil.example',
    'javascript:alert(1)',
    '\t//evil.example',
  ])('is not led elsewhere by to=%s', async (to) => {
    const location = (await signIn(token, {}, to)).headers.get('location') ?? ''
    expect(new URL(location, running.url).origin).toBe(running.url)
  })

  test('changes nothing at the request of another page', async () => {
    const cookie = await sessionCookie()
    const host = new URL(running.url).host
    const act = (headers: Record<string, string>) =>
      running.request('/v1/destinations/none/pause', { method: 'POST', headers: { Cookie: cookie, ...headers } })
    const others: Record<string, string>[] = [
      {},
      { 'Sec-Fetch-Site': 'cross-site' },
      { 'Sec-Fetch-Site': 'same-site', Origin: 'http://127.0.0.1:1' },
      { 'Sec-Fetch-Site': 'none' },
      { Origin: 'http://evil.example' },
      { Origin: 'http://127.0.0.1:1' },
      { Origin: 'null' },
    ]
    for (const headers of others)
      expect(await act(headers), JSON.stringify(headers)).toMatchObject({ status: 403, json: { code: 'cross_site' } })
    expect((await act({ 'Sec-Fetch-Site': 'same-origin' })).status).toBe(404)
    expect((await act({ Origin: `http://${host}` })).status).toBe(404)
    expect((await signIn(token, { 'Sec-Fetch-Site': 'cross-site' })).status).toBe(403)
  })

  test('signs out, by a page of ours only', async () => {
    const cookie = await sessionCookie()
    const signOut = (headers: Record<string, string>) =>
      running.request('/sign-out', { method: 'POST', headers: { Cookie: cookie, ...headers } })
    expect((await signOut({ 'Sec-Fetch-Site': 'cross-site' })).status).toBe(403)
    const answer = await signOut({ 'Sec-Fetch-Site': 'same-origin' })
    expect(answer.status).toBe(303)
    expect(answer.headers.get('location')).toBe('/sign-in')
    expect(answer.headers.get('set-cookie')).toContain('Max-Age=0')
  })

  test('is given pages that nobody frames, sniffs, keeps or adds to', async () => {
    const page = await running.get('/sign-in', asBrowser)
    const policy = page.headers.get('content-security-policy') ?? ''
    expect(policy).toContain("default-src 'none'")
    expect(policy).toContain("frame-ancestors 'none'")
    expect(policy).not.toContain('unsafe')
    expect(page.headers.get('x-content-type-options')).toBe('nosniff')
    expect(page.headers.get('x-frame-options')).toBe('DENY')
    expect(page.headers.get('cache-control')).toBe('no-store')
    expect((await running.get('/v1/events')).headers.get('cache-control')).toBe('no-store')
  })
})

describe('the admin token in a file', () => {
  let home: string
  let file: string
  let console: TestConsole
  beforeEach(async () => {
    home = await mkdtemp(join(tmpdir(), 'console-test-'))
    file = join(home, 'admin-token')
    await writeFile(file, `${token}\n`)
    console = await startTestConsole(database, { TENTERHOOK_ADMIN_TOKEN_FILE: file })
  })
  afterEach(async () => {
    await console.stop()
    await rm(home, { recursive: true })
  })

  test('counts from the moment it is reset: the old one and its sessions are over', async () => {
    const cookie = await sessionCookie(console)
    expect((await console.get('/v1/events', { Cookie: cookie })).status).toBe(200)
    await writeFile(file, 'a-new-token-after-reset')
    expect((await console.get('/v1/events')).status).toBe(401)
    expect((await console.get('/v1/events', { Cookie: cookie })).status).toBe(401)
    expect((await console.get('/v1/events', { Authorization: 'Bearer a-new-token-after-reset' })).status).toBe(200)
  })

  test('lets nobody in while it is gone or holds no token, the old token neither', async () => {
    await writeFile(file, 'two words')
    expect(await console.get('/v1/events', { Authorization: 'Bearer two words' })).toMatchObject({
      status: 503,
      json: { code: 'admin_token_unusable' },
    })
    await rm(file)
    expect(await console.get('/v1/events')).toMatchObject({ status: 503, json: { code: 'admin_token_unreadable' } })
    await writeFile(file, token)
    expect((await console.get('/v1/events')).status).toBe(200)
  })
})

test.each([
  ['admin_token_missing', { TENTERHOOK_ADMIN_TOKEN: '' }],
  ['admin_token_ambiguous', { TENTERHOOK_ADMIN_TOKEN: token, TENTERHOOK_ADMIN_TOKEN_FILE: '/nowhere' }],
  ['admin_token_unreadable', { TENTERHOOK_ADMIN_TOKEN_FILE: '/nowhere/admin-token' }],
])('the console does not start: %s', async (code, variables) => {
  await expect(startTestConsole(database, variables)).rejects.toMatchObject({ code, stage: 'admin token' })
})

test('an admin token that no header can carry is refused when the environment is read, and not repeated', async () => {
  const starting = startTestConsole(database, { TENTERHOOK_ADMIN_TOKEN: 'two words' })
  await expect(starting).rejects.toThrow(/TENTERHOOK_ADMIN_TOKEN: expected visible ASCII characters, without spaces/)
  await expect(starting).rejects.not.toThrow(/two words/)
})
