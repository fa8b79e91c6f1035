import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { vi } from 'vitest'

/** A Redis of the test's own, to be stopped, killed and robbed of its data. `ask` sees it over a connection apart. */
export type RedisServer = Readonly<{
  url: string
  dir: string
  ask: Redis
  /** SIGSTOP: the port still accepts, nobody answers. */
  freeze(): void
  thaw(): void
  /** kill -9, and gone. */
  kill(): Promise<void>
  start(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}>

export async function startRedisServer(...args: string[]): Promise<RedisServer> {
  const dir = await mkdtemp(join(tmpdir(), 'queue-test-'))
  const port = await freePort()
  const url = `redis://127.0.0.1:${port}`
  let server: ChildProcess | undefined
  const killAtExit = () => void server?.kill('SIGKILL')
  process.once('exit', killAtExit)

  async function start(): Promise<void> {
    const options = ['--port', `${port}`, '--bind', '127.0.0.1', '--dir', dir, '--save', '', '--appendonly', 'no']
    server = spawn('redis-server', [...options, ...args], { stdio: 'ignore' })
    await vi.waitUntil(() => ask.status === 'ready', { timeout: 5_000, interval: 5 })
  }
  async function kill(): Promise<void> {
    if (server === undefined) return
    const gone = once(server, 'exit')
    server.kill('SIGKILL')
    await gone
    server = undefined
  }
  const ask = new Redis(url, { retryStrategy: () => 20 })
  ask.on('error', () => {}) // a server that is down is what many tests are about
  async function dispose(): Promise<void> {
    ask.disconnect()
    await kill()
    process.off('exit', killAtExit)
    await rm(dir, { recursive: true, force: true })
  }
  try {
    await start()
  } catch (error) {
    await dispose()
    throw error
  }

  return {
    url,
    dir,
    ask,
    freeze: () => void server?.kill('SIGSTOP'),
    thaw: () => void server?.kill('SIGCONT'),
    kill,
    start,
    [Symbol.asyncDispose]: dispose,
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
