import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { until } from '../../../test/support/poll.ts'
import { guard, openServerDirectories, type Program } from './guardian.ts'
import { processesOf } from './stand-ins/alive.ts'

let home: string

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'tenterhook-guardian-'))
  await openServerDirectories(home)
})

afterEach(async () => {
  await until(() => processesOf(home).length === 0, { what: 'all processes to be gone', timeoutMs: 20_000 })
  await rm(home, { recursive: true })
})

/** A shell program that names the home, so that `processesOf` finds it. */
function shellProgram(name: string, script: string, settings: Partial<Program> = {}): Program {
  return {
    name,
    command: '/bin/sh',
    args: ['-c', `: ${home}; ${script}`],
    env: { PATH: process.env['PATH'] ?? '' },
    cwd: home,
    logPath: join(home, `logs/${name}.log`),
    recordPath: join(home, `run/${name}.json`),
    stopSignal: 'SIGTERM',
    graceMs: 5_000,
    ...settings,
  }
}

/** Runs `guard` in a process of its own, which ends as the test wishes; resolves when the programs are up. */
async function startStarter(programs: readonly Program[], holdFirst = false) {
  const code = `
    import { guard } from ${JSON.stringify(join(import.meta.dirname, 'guardian.ts'))}
    const [first, ...others] = ${JSON.stringify(programs)}
    const held = guard(first)
    for (const program of others) guard(program, ${holdFirst} ? [held.leash] : [])
    process.stdout.write('up')`
  const starter = spawn(process.execPath, ['--input-type=module', '-e', code], {
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(starter.stdout, 'data')
  return starter
}

const loggedTo = async (path: string) => (await readFile(path, 'utf8')).trim().split('\n')

describe('a guarded program', () => {
  it('is stopped with its own signal when its starter is killed', async () => {
    const program = shellProgram('p', `trap 'echo told to stop; exit' INT; echo up; while :; do sleep 0.05; done`, {
      stopSignal: 'SIGINT',
    })
    const starter = await startStarter([program])
    await until(async () => (await loggedTo(program.logPath)).includes('up'), { what: 'the program to be up' })
    starter.kill('SIGKILL')
    await until(() => processesOf(home).length === 0, { what: 'all processes to be gone', timeoutMs: 20_000 })
    expect(await loggedTo(program.logPath)).toEqual(['up', 'told to stop'])
  })

  it('that ignores its signal is killed after its grace when its starter is killed', async () => {
    const program = shellProgram('p', `trap '' TERM; echo up; while :; do sleep 0.05; done`, { graceMs: 300 })
    const starter = await startStarter([program])
    await until(async () => (await loggedTo(program.logPath)).includes('up'), { what: 'the program to be up' })
    starter.kill('SIGKILL')
    await until(() => processesOf(home).length === 0, { what: 'all processes to be gone', timeoutMs: 20_000 })
  })

  it('does not hear a Ctrl-C that goes to the process group of its starter', async () => {
    const program = shellProgram(
      'p',
      `trap 'echo interrupted' INT; trap 'exit' TERM; echo up; while :; do sleep 0.05; done`,
    )
    const starter = await startStarter([program])
    await until(async () => (await loggedTo(program.logPath)).includes('up'), { what: 'the program to be up' })
    process.kill(-(starter.pid ?? 0), 'SIGINT')
    await until(() => processesOf(home).length === 0, { what: 'all processes to be gone', timeoutMs: 20_000 })
    expect(await loggedTo(program.logPath)).toEqual(['up'])
  })

  it('outlives its killed starter until those who hold its leash have ended', async () => {
    const server = shellProgram('server', `trap 'echo stopped >> order; exit' TERM; while :; do sleep 0.05; done`)
    const client = shellProgram(
      'client',
      `trap 'sleep 0.3; echo drained >> order; exit' TERM; echo up; while :; do sleep 0.05; done`,
    )
    const starter = await startStarter([server, client], true)
    await until(async () => (await loggedTo(client.logPath)).includes('up'), { what: 'the client to be up' })
    starter.kill('SIGKILL')
    await until(() => processesOf(home).length === 0, { what: 'all processes to be gone', timeoutMs: 20_000 })
    expect(await loggedTo(join(home, 'order'))).toEqual(['drained', 'stopped'])
  })

  it('hears one signal, not two, when it is stopped while its starter lives', async () => {
    const program = shellProgram(
      'p',
      `trap 'echo told' TERM; echo up; sleep 0.1; until grep -q told logs/p.log; do sleep 0.05; done; sleep 0.3`,
    )
    const running = guard(program)
    await until(async () => (await loggedTo(program.logPath)).includes('up'), { what: 'the program to be up' })
    const [first, second] = await Promise.all([running.stop(), running.stop()])
    expect(first).toBe(second)
    expect(await loggedTo(program.logPath)).toEqual(['up', 'told'])
  })

  it('is killed after its grace when it does not stop', async () => {
    const program = shellProgram('p', `trap '' TERM; echo up; while :; do sleep 0.05; done`, { graceMs: 200 })
    const running = guard(program)
    await until(async () => (await loggedTo(program.logPath)).includes('up'), { what: 'the program to be up' })
    expect(await running.stop()).toEqual({ code: null, signal: 'SIGKILL' })
  })

  it('that ends by itself takes its guardian and its record with it, and gives its exit code', async () => {
    const running = guard(shellProgram('p', 'exit 7'))
    expect(await running.exited).toEqual({ code: 7, signal: null })
    await until(() => processesOf(home).length === 0, { what: 'the guardian to be gone', timeoutMs: 20_000 })
    await expect(readFile(join(home, 'run/p.json'))).rejects.toThrow('ENOENT')
  })

  it('that can not be started exits with 127 and says why in its log', async () => {
    const program = { ...shellProgram('p', ''), cwd: join(home, 'nowhere') }
    expect(await guard(program).exited).toEqual({ code: 127, signal: null })
    expect(await loggedTo(program.logPath)).toEqual([expect.stringContaining('ENOENT')])
  })
})
