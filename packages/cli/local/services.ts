import { join } from 'node:path'

import type { Program } from './guardian.ts'
import { tokenPath } from './home.ts'
import type { Environment } from './redis-binary.ts'

/** What the local run knows when it starts the services; their environment is made of it. */
export type LocalRun = {
  readonly root: string
  readonly home: string
  /** The user's own variables: everything that is not said here reaches the services as it is. */
  readonly env: Environment
  readonly databaseUrl: string
  readonly redisUrl: string
  readonly encryptionKeys: string
  readonly ports: { readonly ingest: number; readonly console: number; readonly demo: number }
  readonly opsPorts: Readonly<Record<ServiceName, number>>
}

export const serviceNames = ['ingest', 'router', 'dispatcher', 'console'] as const
export type ServiceName = (typeof serviceNames)[number]

/** Above the services' own drain delay and grace (25 s), so that theirs decides. */
const graceMs = 30_000
/** The local run delivers to this machine, which the address guard forbids elsewhere. */
export const loopback = '127.0.0.0/8,::1/128'

/** How each of the four services is run on this machine. */
export function servicePrograms(run: LocalRun): Program[] {
  return serviceNames.map((name) =>
    nodeProgram({
      name,
      script: join(run.root, 'services', name, 'main.ts'),
      args: [],
      home: run.home,
      graceMs,
      env: { ...defined(run.env), ...common(run), TENTERHOOK_OPS_PORT: String(run.opsPorts[name]), ...own(name, run) },
    }),
  )
}

/** The receiver that plays the demo's destinations. */
export function demoProgram(run: Pick<LocalRun, 'root' | 'home' | 'env' | 'ports'>): Program {
  return nodeProgram({
    name: 'demo',
    script: join(run.root, 'packages/cli/demo/receiver.ts'),
    args: [String(run.ports.demo)],
    home: run.home,
    graceMs: 1_000,
    env: defined(run.env),
  })
}

function common(run: LocalRun): Record<string, string> {
  return {
    DATABASE_URL: run.databaseUrl,
    REDIS_URL: run.redisUrl,
    HOST: '127.0.0.1',
    LOG_LEVEL: run.env['LOG_LEVEL'] || 'info',
    TENTERHOOK_ENCRYPTION_KEYS: run.encryptionKeys,
    TENTERHOOK_PUBLIC_URL: run.env['TENTERHOOK_PUBLIC_URL'] || `http://127.0.0.1:${run.ports.ingest}`,
  }
}

function own(name: ServiceName, run: LocalRun): Record<string, string> {
  switch (name) {
    case 'ingest':
      return { PORT: String(run.ports.ingest) }
    case 'router':
      return {}
    case 'dispatcher':
      return { TENTERHOOK_ALLOW_CIDRS: run.env['TENTERHOOK_ALLOW_CIDRS'] || loopback }
    case 'console':
      // The file, so that a reset token counts at once; a token given by the environment has come with it.
      return {
        PORT: String(run.ports.console),
        ...(!run.env['TENTERHOOK_ADMIN_TOKEN'] && { TENTERHOOK_ADMIN_TOKEN_FILE: tokenPath(run.home) }),
      }
  }
}

type NodeProgram = {
  name: string
  script: string
  args: string[]
  home: string
  graceMs: number
  env: Record<string, string>
}

/** A TypeScript file, run by the Node that runs us. */
export function nodeProgram({ name, script, args, home, graceMs, env }: NodeProgram): Program {
  return {
    name,
    command: process.execPath,
    args: [script, ...args],
    env,
    cwd: home,
    logPath: join(home, 'logs', `${name}.log`),
    recordPath: join(home, 'run', `${name}.json`),
    stopSignal: 'SIGTERM',
    graceMs,
  }
}

function defined(env: Environment): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  )
}
