import { mkdir, readlink, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import type { Exit, Guarded, Program } from './guardian.ts'
import { guard, openServerDirectories } from './guardian.ts'
import { tailLog } from './log-tail.ts'
import { probePort } from './ports.ts'
import { provideRedis, redisVersion, type Environment, type RedisBinary } from './redis-binary.ts'
import { pingRedis } from './redis-ping.ts'
import { rememberAccess, type Access } from './remembered.ts'
import { explainFileError, SetupError, systemCode } from './setup-error.ts'

/** A private Redis (or Valkey) in `<home>/redis`, on a port of 127.0.0.1 that stays the same, behind a password. */
export type LocalRedis = {
  readonly url: string
  /** `Redis 7.0.15` or `Valkey 8.1.1`. */
  readonly version: string
  readonly program: Program
  /** Resolves when it answers; throws a SetupError with the log's last words when it ended or took too long. */
  readonly ready: (server: Guarded, signal?: AbortSignal) => Promise<void>
}

export type StartedRedis = LocalRedis & { readonly server: Guarded; readonly stop: () => Promise<Exit> }

/** Reading back an append-only file of a few GB. */
const readyTimeoutMs = 120_000
const graceMs = 15_000
const pollMs = 10
const startTriesMax = 3

/** Writes the configuration and says how to start it. `<home>/run` and `<home>/logs` exist. */
export async function prepareRedis({ home, binary }: { home: string; binary: RedisBinary }): Promise<LocalRedis> {
  const directory = join(home, 'redis')
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 })
    const server = join(directory, binary.callAs)
    const [access] = await Promise.all([rememberAccess(join(home, 'redis.json')), link(binary.path, server)])
    const version = await redisVersion(server)
    if (version === undefined)
      throw new SetupError('redis_failed', `${binary.path} can't be run: set REDIS_URL, or reinstall Redis`)
    // In a file, not in arguments: those can be read by every user of the machine.
    await writeFile(join(directory, 'redis.conf'), configuration(access), { mode: 0o600 })
    const program: Program = {
      name: 'redis',
      command: server,
      args: ['redis.conf'],
      env: { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' },
      cwd: directory, // its files are named relative to here, whatever characters the path has
      logPath: join(home, 'logs/redis.log'),
      recordPath: join(home, 'run/redis.json'),
      stopSignal: 'SIGTERM',
      graceMs,
    }
    return {
      url: `redis://:${access.password}@127.0.0.1:${access.port}`,
      version,
      program,
      ready: (server, signal) => waitReady({ server, access, logPath: program.logPath, signal }),
    }
  } catch (error) {
    throw explainFileError(error, directory, 'run as its owner, or set TENTERHOOK_HOME to a directory of yours')
  }
}

/**
 * Starts a private Redis without supervision: for tests and for commands that need one for a moment. `env` is where the
 * binary is looked for (PATH); `say` hears that it must be installed first.
 */
export async function startRedis({
  home,
  env,
  say,
  signal,
}: {
  home: string
  env: Environment
  say: (line: string) => void
  signal?: AbortSignal
}): Promise<StartedRedis> {
  await openServerDirectories(home)
  const binary = await provideRedis({ env, say })
  for (let tries = 1; ; tries += 1) {
    const redis = await prepareRedis({ home, binary })
    const server = guard(redis.program)
    try {
      await redis.ready(server, signal)
      return { ...redis, server, stop: server.stop }
    } catch (error) {
      await server.stop()
      // Somebody took the port between the look and the start: the next look sees it.
      if (tries === startTriesMax || (await probePort(Number(new URL(redis.url).port))) === 'free') throw error
    }
  }
}

/** AOF every second: a kill loses nothing, a power loss the last second; Postgres is the truth. Evicting keys would lie (DESIGN §3). */
function configuration({ port, password }: Access): string {
  return [
    'bind 127.0.0.1',
    `port ${port}`,
    `requirepass ${password}`,
    'daemonize no',
    'appendonly yes',
    'appendfsync everysec',
    'maxmemory-policy noeviction',
    'save ""',
    'logfile ""',
    '',
  ].join('\n')
}

async function link(target: string, path: string): Promise<void> {
  try {
    if ((await readlink(path)) === target) return
    await rm(path)
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error
  }
  await symlink(target, path)
}

type Waiting = { server: Guarded; access: Access; logPath: string; signal: AbortSignal | undefined }

async function waitReady({ server, access, logPath, signal }: Waiting): Promise<void> {
  const ended = server.exited.then(() => true)
  let refusal: string | undefined
  for (let waitedMs = 0; waitedMs < readyTimeoutMs && refusal === undefined; waitedMs += pollMs) {
    signal?.throwIfAborted()
    const outcome = await pingRedis(access)
    if (outcome.kind === 'ready') return
    if (outcome.kind === 'refused') refusal = outcome.answer
    if (await Promise.race([ended, pause(pollMs)])) break
  }
  const said = refusal ?? (await tailLog(logPath, 1))[0] ?? 'it took too long'
  throw new SetupError('redis_failed', `Redis did not start: ${said} (more in ${logPath})`)
}

function pause(ms: number): Promise<false> {
  return new Promise((resolve) => setTimeout(() => resolve(false), ms))
}
