import { join } from 'node:path'
import { guard } from '@tenterhook/cli/local/guardian'
import type { Exit, Guarded } from '@tenterhook/cli/local/guardian'
import { tailLog } from '@tenterhook/cli/local/log-tail'
import { request } from 'undici'
import { until } from './poll.ts'

export const root = join(import.meta.dirname, '../..')

const readyTimeoutMs = 30_000
/** Above the services' own grace, so that theirs decides. */
const graceMs = 30_000

export type StartOptions = {
  /** The program, when it is not the service's own main.ts: a path below the repository. */
  entry?: string
  /** On top of the stack's. */
  env?: Readonly<Record<string, string>>
  /** False: returns once it is started, for one that is to die or to wait for what isn't there yet. */
  untilReady?: boolean
}

/** One copy of a service, as a process of its own that can be killed and started again on the same ports. */
export type ServiceProcess = {
  readonly name: string
  /** Where it takes requests; only ingest and console do. */
  readonly url: string
  readonly opsUrl: string
  readonly pid: number
  readonly logPath: string
  start(options?: StartOptions): Promise<void>
  /** SIGTERM and SIGKILL are waited out; other signals only sent. */
  kill(signal: 'SIGTERM' | 'SIGKILL'): Promise<Exit>
  signal(signal: NodeJS.Signals): void
  /** Resolves when the process that runs now has ended. */
  exited(): Promise<Exit>
  /** Status and body of a path of its ops port. */
  ops(path: string): Promise<{ status: number; text: string }>
}

export function serviceProcess(params: {
  service: string
  /** `router`, `router2` for a second copy. */
  name: string
  home: string
  port: number
  opsPort: number
  env: Readonly<Record<string, string>>
}): ServiceProcess {
  const { service, name, home } = params
  const opsUrl = `http://127.0.0.1:${params.opsPort}`
  const logPath = join(home, 'logs', `${name}.log`)
  let running: Guarded | undefined

  function current(): Guarded {
    if (running === undefined) throw new Error(`${name} was never started`)
    return running
  }

  async function ops(path: string): Promise<{ status: number; text: string }> {
    const { statusCode, body } = await request(`${opsUrl}${path}`)
    return { status: statusCode, text: await body.text() }
  }

  async function waitReady(started: Guarded): Promise<void> {
    let exit: Exit | undefined
    void started.exited.then((how) => (exit = how))
    await until(async () => exit !== undefined || (await ops('/readyz')).status === 200, {
      what: `${name} to be ready`,
      timeoutMs: readyTimeoutMs,
      everyMs: 30,
    })
    if (exit === undefined) return
    const said = await tailLog(logPath, 10)
    throw new Error(`${name} ended (${exit.signal ?? exit.code}) before it was ready:\n${said.join('\n')}`)
  }

  return {
    name,
    url: `http://127.0.0.1:${params.port}`,
    opsUrl,
    logPath,
    get pid() {
      return current().pid
    },
    async start({ entry = `services/${service}/main.ts`, env = {}, untilReady = true } = {}) {
      const started = guard({
        name,
        command: process.execPath,
        args: [join(root, entry)],
        env: {
          ...params.env,
          HOST: '127.0.0.1',
          PORT: String(params.port),
          TENTERHOOK_OPS_PORT: String(params.opsPort),
          ...env,
        },
        cwd: home,
        logPath,
        recordPath: join(home, 'run', `${name}.json`),
        stopSignal: 'SIGTERM',
        graceMs,
      })
      running = started
      if (untilReady) await waitReady(started)
    },
    kill(signal) {
      if (signal === 'SIGTERM') return current().stop()
      process.kill(current().pid, signal)
      return current().exited
    },
    signal: (signal) => void process.kill(current().pid, signal),
    exited: () => current().exited,
    ops,
  }
}
