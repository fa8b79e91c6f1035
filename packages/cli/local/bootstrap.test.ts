import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmod, cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { until } from '../../../test/support/poll.ts'
import { signalGroup } from './guardian.ts'
import { processesOf } from './stand-ins/alive.ts'

/**
 * The bootstrap in a repository of its own, with a space in its path: the real bootstrap.mjs, an `npm` that plays the
 * registry, and a packages/cli/main.ts that does what the test says.
 */
let directory: string
let root: string
let path: string
const children: ChildProcess[] = []

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tenterhook bootstrap-'))
  root = join(directory, 'repository')
  path = join(directory, 'bin')
  await mkdir(join(root, 'packages/cli'), { recursive: true })
  await mkdir(path)
  const repository = join(import.meta.dirname, '../../..')
  for (const part of ['bootstrap.mjs', 'packages/cli/bootstrap']) {
    await cp(join(repository, part), join(root, part), { recursive: true })
  }
  await writeFile(join(root, 'package.json'), JSON.stringify({ packageManager: 'pnpm@1.2.3' }))
  await writeFile(join(root, 'pnpm-lock.yaml'), 'first')
  await main('console.log("ran", ...process.argv.slice(2))')
  await npm(installs)
})

afterEach(async () => {
  for (const { pid } of children.splice(0)) if (pid) signalGroup(pid, 'SIGKILL') // those of a test that failed half-way
  await until(() => processesOf(directory).length === 0, { what: 'every process to be gone', timeoutMs: 20_000 })
  await rm(directory, { recursive: true })
})

/** Once installed each program is begun without arguments, to fill the compile cache: like the real one, it ends then. */
const main = (code: string) => writeFile(join(root, 'packages/cli/main.ts'), `if (process.argv.length > 2) { ${code} }`)
const asked = () =>
  readFile(join(directory, 'asked'), 'utf8').then(
    (text) => text.trim().split('\n'),
    () => [],
  )

/** An install as far as the bootstrap sees it: there is a Node. */
const installs = `mkdir -p node_modules/.bin && ln -sf '${process.execPath}' node_modules/.bin/node`

async function npm(script: string): Promise<void> {
  await writeFile(join(path, 'npm'), `#!/bin/sh\necho "$*" >> "$(dirname "$0")/../asked"\n${script}\n`)
  await chmod(join(path, 'npm'), 0o755)
}

type Run = { child: ChildProcess; output: () => string; exit: Promise<number | NodeJS.Signals | null> }

function start(args: string[] = ['up'], env: Record<string, string> = {}, { asNobody = false } = {}): Run {
  const script = join(root, 'bootstrap.mjs')
  // In root's clone nobody could not even start this Node: it becomes nobody once it runs.
  const code = `process.setgid(65534); process.setuid(65534); await import(${JSON.stringify(script)})`
  const nodeArgs = asNobody ? ['--input-type=module', '-e', code, script, ...args] : [script, ...args]
  const child = spawn(process.execPath, nodeArgs, {
    cwd: root,
    detached: true, // a process group of its own, as a terminal gives one
    env: { PATH: `${path}:/usr/bin:/bin`, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  children.push(child)
  let text = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (text += chunk))
  const exit = once(child, 'close').then(([code, signal]: (number | NodeJS.Signals | null)[]) => code ?? signal ?? null)
  return { child, output: () => text, exit }
}

async function outcome(run: Run) {
  const exit = await run.exit
  return { exit, lines: run.output().trim().split('\n') }
}

describe('the bootstrap', () => {
  it('installs once with the pnpm of package.json, and runs the command under the installed Node', async () => {
    expect(await outcome(start(['up', '--no-demo']))).toEqual({
      exit: 0,
      lines: [
        expect.stringMatching(/^installing dependencies/),
        expect.stringMatching(/^installed in \d+ s$/),
        'ran up --no-demo',
      ],
    })
    expect(await outcome(start(['up']))).toEqual({ exit: 0, lines: ['ran up'] })
    expect(await asked()).toEqual([
      expect.stringMatching(/^exec --yes --package=pnpm@1.2.3 -- pnpm install --frozen-lockfile/),
    ])
  })

  it('installs again when the lock file has changed', async () => {
    await start().exit
    await writeFile(join(root, 'pnpm-lock.yaml'), 'second')
    await start().exit
    expect((await asked()).length).toBe(2)
  })

  it('installs once when several start at the same time', async () => {
    await npm(`sleep 0.3; ${installs}`)
    for (const { exit } of [start(), start(), start()]) expect(await exit).toBe(0)
    expect((await asked()).length).toBe(1)
  })

  it('takes over from an install whose process was killed', async () => {
    await mkdir(join(root, '.tenterhook'))
    await writeFile(join(root, '.tenterhook/install.lock'), String(2 ** 22 + 1)) // above Linux's highest pid
    expect(await start().exit).toBe(0)
  })

  it.each([
    [
      'no registry',
      'npm error code ENOTFOUND',
      /^tenterhook: the npm registry can not be reached: .*then start again$/,
    ],
    [
      'a full disk',
      'ENOSPC: no space left on device, write',
      /^tenterhook: no space left on the disk of .*repository$/,
    ],
    [
      'a missing permission',
      "EACCES: permission denied, mkdir '/somewhere/x'",
      /^tenterhook: no permission to write \/somewhere\/x: run as the owner/,
    ],
    ['an old lock file', 'ERR_PNPM_FROZEN_LOCKFILE_WITH_OUTDATED_LOCKFILE', /^tenterhook: pnpm-lock.yaml does not fit/],
    [
      'anything else',
      'some words\nnpm error strange things',
      /^tenterhook: the dependencies can't be installed \(all that was said: .*install.log\): npm error strange things$/,
    ],
  ])('says %s in one line, and tries again the next time', async (_case, said, line) => {
    await npm(`printf '%s\\n' "${said}" >&2; exit 1`)
    expect(await outcome(start())).toEqual({
      exit: 1,
      lines: [expect.stringMatching(/^installing/), expect.stringMatching(line)],
    })
    await npm(installs)
    expect(await start().exit).toBe(0)
  })

  it.runIf(process.getuid?.() === 0)('says in one line that the repository is not ours to write', async () => {
    await chmod(directory, 0o755)
    expect(await outcome(start(['up'], {}, { asNobody: true }))).toEqual({
      exit: 1,
      lines: [expect.stringMatching(/^tenterhook: no permission to write .*repository/)],
    })
  })

  it("keeps npm's flags and NODE_ENV from the install, but not where the registry is", async () => {
    await npm(`env > ../environment; ${installs}`)
    await start(['up'], {
      NODE_ENV: 'production',
      npm_config_omit: 'dev',
      npm_config_global: 'true',
      npm_config_registry: 'http://mirror/',
      npm_config_cafile: '/ca',
    }).exit
    const environment = await readFile(join(directory, 'environment'), 'utf8')
    expect(environment).not.toMatch(/NODE_ENV|npm_config_omit|npm_config_global/)
    expect(environment).toMatch(/npm_config_registry=http:\/\/mirror\//)
    expect(environment).toMatch(/npm_config_cafile=\/ca/)
  })

  it('passes the exit code of the command on', async () => {
    await main('process.exitCode = 7')
    expect(await start().exit).toBe(7)
  })

  it('passes SIGTERM on, waits for the end, and exits as the command does', async () => {
    await main(
      `process.on('SIGTERM', () => setTimeout(() => { console.log('drained'); process.exit(3) }, 200)); console.log('up'); setInterval(() => {}, 1000)`,
    )
    const run = start()
    await until(() => run.output().includes('up\n'), { what: 'the command to run' })
    run.child.kill('SIGTERM')
    expect(await run.exit).toBe(3)
    expect(run.output()).toMatch(/drained\n$/)
  })

  it('killed, takes the command with it, cleanly', async () => {
    await main(
      `process.on('SIGTERM', () => { console.log('drained'); process.exit() }); console.log('up'); setInterval(() => {}, 1000)`,
    )
    const run = start()
    await until(() => run.output().includes('up\n'), { what: 'the command to run' })
    run.child.kill('SIGKILL')
    await run.exit
    await until(() => processesOf(directory).length === 0, { what: 'every process to be gone', timeoutMs: 20_000 })
    expect(run.output()).toMatch(/drained\n$/)
  })

  it.each(['npm', 'the shell between'])('stops the command when %s is killed', async (who) => {
    await main(
      `process.on('SIGTERM', () => { console.log('drained'); process.exit() }); console.log('up'); setInterval(() => {}, 1000)`,
    )
    // As npm does it: npm, a shell, us. The colons keep each shell from becoming what it runs.
    const shell = `echo shell $$; '${process.execPath}' '${join(root, 'bootstrap.mjs')}' up; :`
    const npm = spawn('/bin/sh', ['-c', 'sh -c "$1"; :', 'npm', shell], {
      env: { PATH: `${path}:/usr/bin:/bin`, npm_lifecycle_event: 'start' },
      detached: true,
      stdio: ['ignore', 'pipe', 'ignore'], // a shell writes `Killed` there
    })
    children.push(npm)
    let text = ''
    npm.stdout.on('data', (chunk) => (text += chunk))
    await until(() => text.includes('up\n'), { what: 'the command to run' })
    const victim = who === 'npm' ? npm.pid : Number(/shell (\d+)/.exec(text)?.[1])
    process.kill(victim ?? 0, 'SIGKILL')
    await until(() => processesOf(directory).length === 0, { what: 'every process to be gone', timeoutMs: 20_000 })
    await until(() => text.endsWith('drained\n'), { what: 'the last word' })
  })

  it.each(['SIGTERM', 'SIGINT', 'SIGKILL'] as const)(
    'ended by %s while it installs, leaves no install running',
    async (signal) => {
      await npm('touch ../installing; sleep 60')
      const run = start()
      await until(() => readFile(join(directory, 'installing')).then(() => true), { what: 'the install to run' })
      process.kill(-(run.child.pid ?? 0), signal)
      await until(() => processesOf(directory).length === 0, { what: 'every process to be gone', timeoutMs: 20_000 })
      expect(await run.exit).not.toBe(0)
      await npm(installs)
      expect(await start().exit).toBe(0)
    },
  )

  it('runs from another directory, as `npx tenterhook` does, and leaves that to the command', async () => {
    await main('console.log(process.cwd())')
    await start().exit
    await symlink(join(root, 'bootstrap.mjs'), join(path, 'tenterhook'))
    const child = spawn(join(path, 'tenterhook'), ['doctor'], {
      cwd: directory,
      env: { PATH: `${path}:${join(process.execPath, '..')}:/usr/bin:/bin` },
    })
    const [chunk] = (await once(child.stdout, 'data')) as [Buffer]
    expect(String(chunk).trim()).toBe(directory)
    await once(child, 'close')
  })
})
