import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'

import { until as untilSoon } from '../../../test/support/poll.ts'
import { readAdminToken, readState } from './home.ts'
import { processesOf } from './stand-ins/alive.ts'

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })
/** A dozen processes start and stop here; a busy machine takes its time over them. */
const until: typeof untilSoon = (condition, patience) => untilSoon(condition, { timeoutMs: 30_000, ...patience })

/** `up` with its real Postgres, Redis and demo receiver, and stand-ins for the services, each run in processes of its own. */
let directory: string
let home: string
let journal: string
const starters: Starter[] = []
const services = ['ingest', 'router', 'dispatcher', 'console']

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tenterhook-up-'))
  home = join(directory, '.tenterhook')
  journal = join(directory, 'journal')
})

afterEach(async () => {
  for (const { child } of starters.splice(0)) child.kill('SIGKILL') // those of a test that failed half-way
  await until(() => processesOf(directory).length === 0, { what: 'every process to be gone' })
  await rm(directory, { recursive: true })
})

type Starter = { child: ChildProcess; output: () => string; exit: Promise<number | NodeJS.Signals | null> }

function start(env: Record<string, string> = {}, service: string[] = []): Starter {
  const script = join(import.meta.dirname, 'stand-ins/starter.ts')
  const { DATABASE_URL: _database, REDIS_URL: _redis, ...own } = process.env
  const child = spawn(process.execPath, [script, home, journal, ...service], {
    detached: true, // a process group of its own, as a terminal gives one
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...own, ...env },
  })
  let text = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (text += chunk))
  const exit = new Promise<number | NodeJS.Signals | null>((resolve) =>
    child.on('close', (code, signal) => resolve(code ?? signal)),
  )
  const starter = { child, output: () => text, exit }
  starters.push(starter)
  return starter
}

const untilReady = (starter: Starter) => until(() => /^ready /m.test(starter.output()), { what: 'the line `ready`' })
const interruptGroup = ({ child }: Starter) => process.kill(-(child.pid ?? 0), 'SIGINT')
const notes = async () => (await readFile(journal, 'utf8')).trim().split('\n')

describe('up', () => {
  it('says ready with its URLs, keeps them for the CLI, and stops in order on a Ctrl-C to its group', async () => {
    const starter = start()
    await untilReady(starter)
    const state = await readState(home)
    expect(starter.output()).toContain(
      `ready  ingest ${state?.ingestUrl}  console ${state?.consoleUrl}  demo ${state?.demoUrl}/received`,
    )
    expect((await fetch(`${state?.demoUrl}/received`)).status).toBe(200)

    interruptGroup(starter)
    expect(await starter.exit).toBe(0)
    expect(processesOf(directory)).toEqual([])
    expect((await notes()).filter((note) => note.endsWith('drained')).length).toBe(services.length)
    expect(await readState(home)).toBeUndefined()
  })

  it('prints the admin token at the first start only', async () => {
    for (const times of [1, 0]) {
      const starter = start()
      await untilReady(starter)
      interruptGroup(starter)
      await starter.exit
      const token = await readAdminToken(home)
      expect(starter.output().split(String(token)).length - 1).toBe(times)
    }
  })

  it('takes the Ctrl-C of the terminal and the one that npm passes on for one', async () => {
    const starter = start()
    await untilReady(starter)
    interruptGroup(starter)
    interruptGroup(starter)
    expect(await starter.exit).toBe(0)
    expect((await notes()).filter((note) => note.endsWith('drained')).length).toBe(services.length)
  })

  it('stops at once on a second Ctrl-C, and leaves nothing behind', async () => {
    const starter = start({ DRAIN_MS: '60000' })
    await untilReady(starter)
    interruptGroup(starter)
    await until(async () => (await notes()).filter((note) => note.endsWith('draining')).length === services.length, {
      what: 'all services to drain',
    })
    const second = setInterval(() => interruptGroup(starter), 200) // until a second has passed since the first
    expect(await starter.exit).toBe(130)
    clearInterval(second)
    await until(() => processesOf(directory).length === 0, { what: 'every process to be gone' })
    expect((await notes()).filter((note) => note.endsWith('was cut short')).length).toBe(services.length)
  })

  it('leaves no process behind when it is killed, and its services drain while their servers live', async () => {
    const starter = start()
    await untilReady(starter)
    starter.child.kill('SIGKILL')
    await until(() => processesOf(directory).length === 0, { what: 'every process to be gone' })
    expect((await notes()).filter((note) => note.endsWith('drained')).length).toBe(services.length)
  })

  it('can be started again at once after it was killed', async () => {
    const killed = start({ DRAIN_MS: '2000' }) // longer than the next one needs to look
    await untilReady(killed)
    killed.child.kill('SIGKILL')
    const starter = start()
    await untilReady(starter)
    expect(starter.output()).toMatch(/^waiting for an earlier run to end/m)
    interruptGroup(starter)
    expect(await starter.exit).toBe(0)
  })

  it('starts a service, Redis or Postgres that died again, and says so in one line', async () => {
    const starter = start()
    await untilReady(starter)
    const [ingest] = (await notes()).filter((note) => note.startsWith('ingest started'))
    process.kill(Number(ingest?.split(' ')[2]), 'SIGKILL')
    for (const name of ['redis', 'postgres']) process.kill(await pidOf(name), 'SIGKILL')
    for (const name of ['ingest', 'redis', 'postgres']) {
      const line = new RegExp(`^${name} was ended by SIGKILL; starting it again in 0.25 s`, 'm')
      await until(() => line.test(starter.output()), { what: `the line about ${name}` })
    }
    for (const name of ['redis', 'postgres']) {
      const line = new RegExp(`^${name} is back$`, 'm')
      await until(() => line.test(starter.output()), { what: `the line that ${name} is back` })
    }
    await until(async () => (await notes()).filter((note) => note.startsWith('ingest started')).length === 2, {
      what: 'a second ingest',
    })
    await until(
      async () =>
        (await readFile(join(home, 'logs/postgres.log'), 'utf8')).split('ready to accept connections').length === 3,
      { what: 'a second Postgres' },
    )
    interruptGroup(starter)
    expect(await starter.exit).toBe(0)
  })

  it('refuses a second start in the same home and says which process runs', async () => {
    const first = start()
    await untilReady(first)
    const second = start()
    expect(await second.exit).toBe(1)
    expect(second.output()).toContain(`already running in ${home} (pid ${first.child.pid})`)
    expect(second.output().trim().split('\n').length).toBe(1)
    interruptGroup(first)
    expect(await first.exit).toBe(0)
  })

  it('says which port is in use and how to choose another, and leaves nothing behind', async () => {
    const squatter = createServer().listen(0, '127.0.0.1')
    const address = await until(() => squatter.address(), { what: 'a port' })
    const port = typeof address === 'object' ? address.port : 0
    const starter = start({ TENTERHOOK_INGEST_PORT: String(port) })
    expect(await starter.exit).toBe(1)
    expect(starter.output().trim()).toBe(
      `port ${port} (ingest) is in use by another program: end that one, or choose another with TENTERHOOK_INGEST_PORT=… or --ingest-port`,
    )
    squatter.close()
  })

  it('stops everything, also when it is told to while it starts', async () => {
    const starter = start()
    await until(() => processesOf(directory).length > 1, { what: 'a first process' })
    starter.child.kill('SIGTERM')
    expect(await starter.exit).toBe(0)
    expect(starter.output()).not.toMatch(/^ready/m)
  })

  it('gives up on a service that never starts, with its last words, and stops the others', async () => {
    const script = join(directory, 'broken.ts')
    await writeFile(script, `throw new Error('no such setting')`)
    const starter = start({}, [script])
    expect(await starter.exit).toBe(1)
    expect(starter.output()).toMatch(/^\w+ does not start: Error: no such setting \(more in /m)
  })
})

async function pidOf(name: string): Promise<number> {
  const record = JSON.parse(await readFile(join(home, `run/${name}.json`), 'utf8')) as { pid: number }
  return record.pid
}
