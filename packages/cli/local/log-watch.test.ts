import { appendFile, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { followLog, lastWordsOfLog, shorten } from './log-watch.ts'

let directory: string
let path: string
const lines: string[] = []
const follow = () => followLog({ name: 'router', path, say: (said) => void lines.push(said) })
const line = (level: string, msg: string) => `${JSON.stringify({ level, service: 'router', event: 'e', msg })}\n`

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tenterhook-log-'))
  path = join(directory, 'router.log')
  lines.length = 0
})

afterEach(() => rm(directory, { recursive: true }))

describe('a followed log', () => {
  it('tells warnings and errors once, and nothing of what stood there before', async () => {
    await writeFile(path, line('error', 'of another day'))
    const look = follow()
    await appendFile(path, line('warn', 'first') + line('info', 'no news') + line('error', 'second'))
    await look()
    await look()
    expect(lines).toEqual(['router: warn: first', 'router: error: second'])
  })

  it('leaves lines about servers that are away to the file while an outage lasts', async () => {
    let away = true
    const look = followLog({ name: 'router', path, say: (said) => void lines.push(said), inOutage: () => away })
    const down = `${JSON.stringify({ level: 'warn', event: 'redis.down', msg: 'redis is down' })}\n`
    await appendFile(path, down + line('warn', 'another matter'))
    await look()
    expect(lines).toEqual(['router: warn: another matter'])
    away = false
    await appendFile(path, down)
    await look()
    expect(lines).toEqual(['router: warn: another matter', 'router: warn: redis is down'])
  })

  it('waits for the file, and for the end of a half-written line', async () => {
    const look = follow()
    await look()
    const whole = line('warn', 'in two parts: ü')
    await appendFile(path, line('warn', 'begin') + whole.slice(0, 30))
    await look()
    await appendFile(path, whole.slice(30))
    await look()
    expect(lines).toEqual(['router: warn: begin', 'router: warn: in two parts: ü'])
  })

  it('says a line once that comes again at once, and again when it comes later', async () => {
    const look = follow()
    for (let times = 0; times < 2; times += 1) {
      await appendFile(path, line('warn', 'redis is down').repeat(3))
      await look()
    }
    expect(lines).toEqual(['router: warn: redis is down'])
    await look()
    await appendFile(path, line('warn', 'redis is down'))
    await look()
    expect(lines).toEqual(['router: warn: redis is down', 'router: warn: redis is down'])
  })

  it('cuts a burst to its first lines and a count', async () => {
    const look = follow()
    for (let number = 1; number <= 10; number += 1) await appendFile(path, line('warn', `number ${number}`))
    await look()
    expect(lines).toEqual([
      ...[1, 2, 3].map((number) => `router: warn: number ${number}`),
      `router: 7 more like these in ${path}`,
    ])
  })

  it('is emptied into a second file when it has grown too large, and followed on', async () => {
    const look = follow()
    const bytes = 21 * 1024 * 1024
    await appendFile(path, Buffer.alloc(bytes, 'x\n'))
    await look()
    expect([(await stat(path)).size, (await stat(`${path}.1`)).size]).toEqual([0, bytes])
    await appendFile(path, line('warn', 'afterwards'))
    await look()
    expect(lines).toEqual(['router: warn: afterwards'])
  })
})

describe('a short line', () => {
  it('carries the sentence, or the event, and the error', () => {
    const error = { level: 'error', event: 'e', msg: 'redis is down', error: { message: 'ECONNREFUSED' } }
    expect(shorten(JSON.stringify(error))).toBe('error: redis is down: ECONNREFUSED')
    expect(shorten(JSON.stringify({ level: 'warn', event: 'delivery.dead' }))).toBe('warn: delivery.dead')
    const reason = { level: 'warn', event: 'redis.down', reason: 'connect ECONNREFUSED' }
    expect(shorten(JSON.stringify(reason))).toBe('warn: redis.down: connect ECONNREFUSED')
  })

  it('tells what it is about, in words that can not steer a terminal', () => {
    const rejected = {
      level: 'warn',
      event: 'event.rejected',
      source: 'stripe',
      status: 401,
      code: 'signature_mismatch',
    }
    expect(shorten(JSON.stringify(rejected))).toBe('warn: event.rejected stripe 401 signature_mismatch')
    expect(shorten(JSON.stringify({ ...rejected, detail: 'no \u001b[2J' }))).toBe(
      'warn: event.rejected stripe 401 signature_mismatch: no \\x1b[2J',
    )
    const dead = { level: 'error', event: 'delivery.dead', msg: 'a dead letter', id: 'dlv_1', destination: 'crm' }
    expect(shorten(JSON.stringify(dead))).toBe('error: a dead letter (crm, dlv_1)')
  })

  it('is none of a line that is no warning, or not JSON', () => {
    expect(shorten(JSON.stringify({ level: 'info', msg: 'fine' }))).toBeUndefined()
    expect(shorten('"level":"warn" in a sentence')).toBeUndefined()
  })

  it('is cut at its bound', () => {
    expect(shorten(line('warn', 'x'.repeat(1_000)))?.length).toBe(201)
  })
})

describe('the last words of a log', () => {
  it('are its last error, else the head of a stack, else its last line', async () => {
    await writeFile(path, `${line('fatal', 'no database')}${line('info', 'bye')}`)
    expect(await lastWordsOfLog(path)).toBe('fatal: no database')
    await writeFile(path, 'at x\nTypeError: no\n    at y\n\nNode.js v24\n')
    expect(await lastWordsOfLog(path)).toBe('TypeError: no')
    await writeFile(path, 'one\ntwo\n')
    expect(await lastWordsOfLog(path)).toBe('two')
    expect(await lastWordsOfLog(join(directory, 'none'))).toBeUndefined()
  })

  it('are those of this life, and plain lines that came last', async () => {
    const earlier = line('fatal', 'of another day')
    const wrong = ['DATABASE_URL: expected a URL; found "x"', 'REDIS_URL: expected a URL; found "y"']
    await writeFile(path, `${earlier}${wrong.join('\n')}\n`)
    expect(await lastWordsOfLog(path)).toBe(wrong.join('; '))
    await writeFile(path, `${earlier}no such file\n`)
    expect(await lastWordsOfLog(path)).toBe('no such file')
    await writeFile(path, earlier)
    expect(await lastWordsOfLog(path, earlier.length)).toBeUndefined()
    expect(await lastWordsOfLog(path, earlier.length + 1)).toBe('fatal: of another day') // it was emptied since
  })
})
