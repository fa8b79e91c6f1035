import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { exitCodes } from './service.ts'

type Line = { event: string; [field: string]: unknown }
type Process = {
  child: ChildProcess
  lines(): Line[]
  line(event: string): Promise<Line>
  url(): Promise<string>
  stderr(): string
  /** Code and signal, and how long after this call. */
  ended(): Promise<{ code: unknown; signal: unknown; tookMs: number }>
}

const children: ChildProcess[] = []
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
})

function run(kind: string, variables: Record<string, string> = {}): Process {
  const path = fileURLToPath(new URL('service.fixture.ts', import.meta.url))
  const env = { PORT: '0', TENTERHOOK_OPS_PORT: '0', ...variables }
  const child = spawn(process.execPath, [path, kind], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  children.push(child)
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk) => (stdout += String(chunk)))
  child.stderr.on('data', (chunk) => (stderr += String(chunk)))
  const ended = once(child, 'close')

  const lines = () =>
    stdout
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Line)
  const line = (event: string) =>
    vi.waitFor(
      () => {
        const found = lines().find((each) => each.event === event)
        if (found === undefined) throw new Error(`no line ${event} in ${stdout}${stderr}`)
        return found
      },
      { timeout: 10_000 },
    )
  return {
    child,
    lines,
    line,
    url: async () => String((await line('fixture.listening'))['url']),
    stderr: () => stderr,
    ended: async () => {
      const begun = performance.now()
      const [code, signal] = await ended
      return { code, signal, tookMs: performance.now() - begun }
    },
  }
}

test('the exit codes are 0 for clean, 1 for failed, 70 for crashed', () => {
  expect(exitCodes).toEqual({ clean: 0, failed: 1, crashed: 70 })
})

describe.each(['SIGTERM', 'SIGINT'] as const)('%s', (signal) => {
  test('stops a service cleanly: requests in flight are answered, every line is out, exit 0', async () => {
    const service = run('plain')
    const url = await service.url()
    await service.line('service.ready')
    const slow = fetch(`${url}/slow`)
    await service.line('fixture.slow')
    service.child.kill(signal)
    expect(await (await slow).text()).toBe('slow')
    expect(await service.ended()).toMatchObject({ code: 0, signal: null })
    expect(service.lines().map(({ event }) => event)).toEqual([
      'service.starting',
      'fixture.listening',
      'service.ready',
      'fixture.slow',
      'service.signalled',
      'service.draining',
      'service.stopped',
    ])
    expect(service.stderr()).toBe('')
  })

  test('a second time, later, exits at once with 1', async () => {
    const service = run('stuck-stop')
    await service.line('service.ready')
    service.child.kill(signal)
    await service.line('service.draining')
    // Within 100 ms it would count as the same wish.
    await delay(150)
    service.child.kill(signal)
    const { code, tookMs } = await service.ended()
    expect(code).toBe(1)
    expect(tookMs).toBeLessThan(1000)
    expect(service.lines().at(-1)).toMatchObject({ event: 'service.cut_short', level: 'fatal' })
  })
})

test("a terminal's SIGINT and npm's copy of it, both at once, are one wish to stop", async () => {
  const service = run('slow-stop', { TENTERHOOK_GRACE: '400ms' })
  await service.line('service.ready')
  service.child.kill('SIGINT')
  service.child.kill('SIGTERM')
  expect(await service.ended()).toMatchObject({ code: 0, signal: null })
})

test('during the drain delay requests are served and told to go elsewhere', async () => {
  const service = run('plain', { TENTERHOOK_DRAIN_DELAY: '600ms' })
  const url = await service.url()
  await service.line('service.ready')
  expect((await fetch(url)).headers.get('connection')).toBe('keep-alive')
  service.child.kill('SIGTERM')
  await service.line('service.draining')
  const response = await fetch(url)
  expect({ status: response.status, connection: response.headers.get('connection') }).toEqual({
    status: 200,
    connection: 'close',
  })
  expect(await service.ended()).toMatchObject({ code: 0 })
})

test('a component that never stops costs the grace and exit code 1, no more', async () => {
  const service = run('stuck-stop', { TENTERHOOK_GRACE: '200ms' })
  await service.line('service.ready')
  service.child.kill('SIGTERM')
  const { code, tookMs } = await service.ended()
  expect(code).toBe(1)
  expect(tookMs).toBeLessThan(3000)
  expect(service.lines()).toContainEqual(expect.objectContaining({ event: 'service.stop_failed', component: 'odd' }))
})

describe('told to stop while it starts', () => {
  test('a service never becomes ready and exits cleanly', async () => {
    const service = run('slow-start')
    await service.line('service.starting')
    service.child.kill('SIGTERM')
    expect(await service.ended()).toMatchObject({ code: 0, signal: null })
    expect(service.lines().map(({ event }) => event)).toEqual(['service.starting', 'service.signalled'])
  })

  test('a service whose start hangs ends with its grace', async () => {
    const service = run('stuck-start', { TENTERHOOK_GRACE: '200ms' })
    await service.line('service.starting')
    service.child.kill('SIGTERM')
    const { code, tookMs } = await service.ended()
    expect(code).toBe(1)
    expect(tookMs).toBeLessThan(3000)
  })
})

describe('a start that fails', () => {
  test('for a reason of the machine is one fatal line without a stack, and exit code 1', async () => {
    const service = run('fails')
    expect(await service.ended()).toMatchObject({ code: 1 })
    expect(service.lines().at(-1)).toMatchObject({
      level: 'fatal',
      event: 'service.start_failed',
      component: 'odd',
      code: 'ECONNREFUSED',
      msg: 'odd could not start: connection refused',
    })
    expect(JSON.stringify(service.lines())).not.toContain('.ts:')
    expect(service.stderr()).toBe('')
  })

  test('for a fault of ours shows the stack', async () => {
    const service = run('bug')
    expect(await service.ended()).toMatchObject({ code: 1 })
    expect(service.lines().at(-1)).toMatchObject({
      event: 'service.start_failed',
      error: { cause: { type: 'TypeError', stack: expect.stringContaining('service.fixture') } },
    })
  })

  test.each(['PORT', 'TENTERHOOK_OPS_PORT'])(
    'because %s is in use names the port and the variable',
    async (variable) => {
      const other = createServer()
      await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
      const { port } = other.address() as AddressInfo
      const service = run('plain', { [variable]: String(port) })
      expect(await service.ended()).toMatchObject({ code: 1 })
      expect(service.lines().at(-1)).toMatchObject({
        code: 'port_in_use',
        msg: expect.stringContaining(
          `port ${port} on 127.0.0.1 is in use by another program; stop it or set ${variable}`,
        ),
      })
      await new Promise((resolve) => other.close(resolve))
    },
  )
})

describe('what nobody caught', () => {
  test.each([
    ['an exception', '/throw', 'thrown outside of a handler'],
    ['a rejection', '/reject', 'rejected outside of a handler'],
  ])('%s is a fatal line with its stack and exit code 70', async (_what, path, message) => {
    const service = run('plain')
    const url = await service.url()
    await service.line('service.ready')
    await fetch(`${url}${path}`).catch(() => {})
    expect(await service.ended()).toMatchObject({ code: 70, signal: null })
    expect(service.lines().at(-1)).toMatchObject({
      level: 'fatal',
      event: 'service.crashed',
      error: { message, stack: expect.stringContaining('service.fixture') },
    })
  })
})

test('the start line says what is in force, without secrets', async () => {
  const service = run('plain', { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://user:s3cret@127.0.0.1:9' })
  const { settings } = await service.line('service.starting')
  expect(settings).toMatchObject({
    HOST: '127.0.0.1',
    TENTERHOOK_GRACE: 25_000,
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://user:[redacted]@127.0.0.1:9',
  })
  expect(JSON.stringify(settings)).not.toContain('s3cret')
})
