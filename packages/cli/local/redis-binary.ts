import { execFile } from 'node:child_process'
import { access, constants } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'

import { lastWords, SetupError } from './setup-error.ts'

export type RedisBinary = {
  readonly path: string
  /** The name it must be called by: Debian's server is the same file as `redis-check-rdb` and asks for its own name. */
  readonly callAs: string
}

export type Environment = Readonly<Record<string, string | undefined>>

const checkTimeoutMs = 10_000
/** A package manager that waits for another one, then downloads a few MB. */
const installTimeoutMs = 300_000
const candidates: readonly RedisBinary[] = ['redis-server', 'valkey-server', 'redis-check-rdb', 'valkey-check-rdb'].map(
  (path) => ({
    path,
    callAs: path.replace('check-rdb', 'server'),
  }),
)

type Install = {
  manager: 'apt-get' | 'dnf' | 'brew'
  packages: string
  commands: readonly (readonly string[])[]
}

/**
 * How each package manager gives us the server's binary without starting a system service:
 * - Debian and Ubuntu: `redis-tools` holds the binary; `redis-server` only adds the link to it and the service.
 *   The package lists of a fresh image are empty, so they are fetched first.
 * - Fedora and RHEL, Homebrew: a package's service stays off until somebody turns it on.
 */
const installs: readonly Install[] = [
  {
    manager: 'apt-get',
    packages: 'redis-tools',
    commands: [
      ['apt-get', '-q', '-o', 'DPkg::Lock::Timeout=120', 'update'],
      ['apt-get', '-q', '-y', '-o', 'DPkg::Lock::Timeout=120', 'install', '--no-install-recommends', 'redis-tools'],
    ],
  },
  {
    manager: 'dnf',
    packages: 'valkey',
    commands: [
      ['dnf', '-q', '-y', 'install', 'valkey'],
      ['dnf', '-q', '-y', 'install', 'redis'], // before Valkey came
    ],
  },
  { manager: 'brew', packages: 'redis', commands: [['brew', 'install', '--quiet', 'redis']] },
]

/** The machine's own `redis-server` or `valkey-server`, looked for on PATH; undefined when there is none. */
export async function findRedis(env: Environment): Promise<RedisBinary | undefined> {
  for (const candidate of candidates) {
    const path = await findProgram(candidate.path, env)
    if (path !== undefined) return { path, callAs: candidate.callAs }
  }
  return undefined
}

/**
 * The machine's Redis, installed by the system's package manager if need be and if that asks no question: as root, or
 * with a sudo that wants no password; Homebrew needs neither. Otherwise a SetupError that says what to type.
 */
export async function provideRedis({
  env,
  say,
}: {
  env: Environment
  say: (line: string) => void
}): Promise<RedisBinary> {
  const found = await findRedis(env)
  if (found) return found
  const install = await firstInstall(env)
  if (install === undefined) {
    throw new SetupError(
      'no_redis',
      'there is no redis-server on this machine: install Redis 6.2 or newer (or Valkey), or set REDIS_URL',
    )
  }
  const prefix = await privilege(install, env)
  if (prefix === undefined)
    throw new SetupError(
      'no_redis',
      `there is no redis-server on this machine: type ${advice(install)} and start again, or set REDIS_URL`,
    )
  say(`there is no redis-server on this machine: installing ${install.packages} with ${install.manager}`)
  let failure: unknown
  for (const command of install.commands) {
    failure = await run([...prefix, ...command], env)
    const installed = await findRedis(env)
    if (installed) return installed
  }
  throw new SetupError(
    'no_redis',
    `${install.manager} could not install ${install.packages} (${failure === undefined ? 'it says that it did' : lastWords(failure)}): type ${advice(install)} to see why, or set REDIS_URL`,
    { cause: failure },
  )
}

function advice({ manager, packages }: Install): string {
  return manager === 'brew' ? `\`brew install ${packages}\`` : `\`sudo ${manager} install ${packages}\``
}

async function firstInstall(env: Environment): Promise<Install | undefined> {
  for (const install of installs) if (await findProgram(install.manager, env)) return install
  return undefined
}

/** The words to put before a command so that it may install; undefined when somebody would have to type a password. */
async function privilege({ manager }: Install, env: Environment): Promise<string[] | undefined> {
  if (manager === 'brew' || process.getuid?.() === 0) return []
  if (!(await findProgram('sudo', env))) return undefined
  // sudo drops the environment, and with it what keeps dpkg from asking.
  const prefix = ['sudo', '-n', 'env', ...Object.entries(unattended).map(([name, value]) => `${name}=${value}`)]
  return (await run(['sudo', '-n', 'true'], env)) === undefined ? prefix : undefined
}

const unattended = { DEBIAN_FRONTEND: 'noninteractive', NEEDRESTART_MODE: 'l', HOMEBREW_NO_AUTO_UPDATE: '1' }

/** Runs a command with nobody to answer it; gives back the error, if there was one. */
async function run([program = '', ...args]: string[], env: Environment): Promise<unknown> {
  try {
    const running = promisify(execFile)(program, args, { env: { ...env, ...unattended }, timeout: installTimeoutMs })
    running.child.stdin?.end()
    await running
    return undefined
  } catch (error) {
    return error
  }
}

async function findProgram(name: string, env: Environment): Promise<string | undefined> {
  for (const directory of (env['PATH'] ?? '').split(delimiter)) {
    const path = join(directory || '.', name)
    try {
      await access(path, constants.X_OK)
      return path
    } catch {
      continue // not here
    }
  }
  return undefined
}

/** What the server says of itself: `Redis 7.0.15`; undefined when it can't be run. */
export async function redisVersion(serverPath: string): Promise<string | undefined> {
  try {
    const { stdout } = await promisify(execFile)(serverPath, ['--version'], { timeout: checkTimeoutMs })
    const said = /^(\w+) server v=([\d.]+)/.exec(stdout)
    return said ? `${said[1]} ${said[2]}` : undefined
  } catch {
    return undefined
  }
}
