import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, test, vi } from 'vitest'
import type { LogLevel } from './log.ts'
import { createLogger } from './log.ts'

function loggerToArray(level: LogLevel) {
  const lines: Record<string, unknown>[] = []
  const write = (line: string) => {
    expect(line).toMatch(/\n$/)
    lines.push(JSON.parse(line))
  }
  return { log: createLogger({ service: 'ingest', level, destination: { write } }), lines }
}

describe('a line', () => {
  test('carries time, level by name, service, event and the fields', () => {
    const { log, lines } = loggerToArray('info')
    log.info({ event: 'event.accepted', eventId: 'evt_1', durationMs: 1.5 }, 'kept')
    expect(lines).toEqual([
      {
        level: 'info',
        time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
        service: 'ingest',
        pid: process.pid,
        event: 'event.accepted',
        eventId: 'evt_1',
        durationMs: 1.5,
        msg: 'kept',
      },
    ])
  })

  test('below the level is not written', () => {
    const { log, lines } = loggerToArray('warn')
    log.debug({ event: 'a' })
    log.info({ event: 'b' })
    log.warn({ event: 'c' })
    log.error({ event: 'd' })
    expect(lines.map(({ event }) => event)).toEqual(['c', 'd'])
  })

  test('of a child has its fields too, without their secrets', () => {
    const { log, lines } = loggerToArray('info')
    log.child({ queue: 'route', token: 's3cret' }).info({ event: 'a', password: 's3cret' })
    expect(lines[0]).toMatchObject({ queue: 'route', event: 'a', token: '[redacted]', password: '[redacted]' })
  })

  test('shows an error without the fields a driver hung on it', () => {
    const { log, lines } = loggerToArray('info')
    log.error({ event: 'a', error: Object.assign(new Error('no'), { code: '57P01', detail: 's3cret' }) })
    expect(lines[0]).toMatchObject({ error: { message: 'no', code: '57P01' } })
    expect(JSON.stringify(lines)).not.toContain('s3cret')
  })
})

describe('stdout', () => {
  const children: ChildProcess[] = []
  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL')
  })

  function start(ending: string, count = 20_000) {
    const path = fileURLToPath(new URL('log.fixture.ts', import.meta.url))
    const child = spawn(process.execPath, [path, ending, String(count)], {
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    })
    children.push(child)
    return child
  }

  /** The numbers of all lines until the end of stdout, read with a pause before each chunk. */
  async function readNumbers(child: ChildProcess, pauseMs: number): Promise<number[]> {
    let text = ''
    for await (const chunk of child.stdout ?? []) {
      text += String(chunk)
      if (pauseMs > 0) await delay(pauseMs)
    }
    return text
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as { n: number }).n)
  }

  const upTo = (end: number) => Array.from({ length: end }, (_, n) => n)

  test.each([
    ['process.exit', 'exit', 20_000, 0],
    ['process.exit and a slow reader', 'exit', 20_000, 2],
    ['the end of the program', 'return', 20_000, 0],
    ['fatal, followed by kill -9', 'fatal-and-sigkill', 20_001, 0],
  ])('has every line once and in order after %s', async (_what, ending, count, pauseMs) => {
    expect(await readNumbers(start(ending), pauseMs)).toEqual(upTo(count))
  })

  test('has lines soon, without an end', async () => {
    const child = start('wait')
    let text = ''
    child.stdout?.on('data', (chunk) => (text += String(chunk)))
    await vi.waitFor(() => expect(text).toContain('"n":19999}'), { timeout: 10_000 })
  })

  test('whose reader hangs costs bounded memory: later lines are dropped, and their number is said', async () => {
    const count = 150_000
    const child = start('wait', count)
    // 150,000 lines are twice what the buffer and the pipe hold, and the program came to their end all the same.
    expect(await once(child, 'message')).toContain('written')
    let text = ''
    child.stdout?.on('data', (chunk) => (text += String(chunk)))
    await vi.waitFor(() => expect(text).toMatch(/"event":"log.dropped".*\n/), { timeout: 10_000 })
    const lines = text
      .split('\n')
      .flatMap((line) => (line.startsWith('{') && line.endsWith('}') ? [JSON.parse(line)] : []))
    const dropped = lines.find(({ event }) => event === 'log.dropped').lines
    expect(dropped).toBeGreaterThan(0)
    expect(lines.filter(({ event }) => event === 'line')).toHaveLength(count - dropped)
  })

  test('whose reader is gone does not end the program', async () => {
    const child = start('exit')
    child.stdout?.destroy()
    const [code, signal] = await once(child, 'exit')
    expect({ code, signal }).toEqual({ code: 0, signal: null })
  })
})
