import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { guard, openServerDirectories, type Program } from './guardian.ts'
import { endLeftovers } from './leftovers.ts'

let home: string
const lines: string[] = []

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'tenterhook-leftovers-'))
  await openServerDirectories(home)
  lines.length = 0
})

// The guardian may be taking its record away at this moment.
afterEach(() => rm(home, { recursive: true, force: true, maxRetries: 3 }))

const program = (script: string): Program => ({
  name: 'router',
  command: '/bin/sh',
  args: ['-c', script],
  env: { PATH: process.env['PATH'] ?? '' },
  cwd: home,
  logPath: join(home, 'logs/router.log'),
  recordPath: join(home, 'run/router.json'),
  stopSignal: 'SIGTERM',
  graceMs: 5_000,
})

const end = (guardedPatienceMs = 10_000) =>
  endLeftovers({ home, say: (line) => void lines.push(line), signal: new AbortController().signal, guardedPatienceMs })

describe('what an earlier run left', () => {
  it('is waited for while its guardian stops it', async () => {
    const left = guard(program(`trap 'sleep 0.3; exit 3' TERM; while :; do sleep 0.05; done`))
    left.leash.destroy() // as when its starter is killed
    await end()
    expect(lines).toEqual(['waiting for an earlier run to end (router)'])
    expect(await left.exited).not.toEqual({ code: null, signal: 'SIGKILL' })
  })

  it('is stopped when it has no guardian any more', async () => {
    const left = guard(program('exec sleep 60'))
    await end(200)
    expect(await left.exited).toEqual({ code: null, signal: 'SIGTERM' })
  })

  it('is nothing when its pid belongs to another process by now, which is left alone', async () => {
    const record = { name: 'router', pid: process.pid, start: 'another time', stopSignal: 'SIGTERM' }
    await writeFile(join(home, 'run/router.json'), JSON.stringify(record))
    await writeFile(join(home, 'run/half.json'), '{"name":')
    await end()
    expect(lines).toEqual([])
    expect(await readdir(join(home, 'run'))).toEqual([])
  })
})
