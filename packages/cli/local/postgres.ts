import { execFile } from 'node:child_process'
import { chown, mkdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

import type { Exit, Guarded, Program, RunAs } from './guardian.ts'
import { guard, openServerDirectories } from './guardian.ts'
import { tailLog } from './log-tail.ts'
import { findPostgresBinaries, type PostgresBinaries } from './postgres-binaries.ts'
import { probePort } from './ports.ts'
import { processName } from './process-start.ts'
import { rememberAccess, type Access } from './remembered.ts'
import { explainFileError, lastWords, SetupError, systemCode } from './setup-error.ts'

/**
 * A private Postgres in `<home>/postgres`, on a port of 127.0.0.1 that stays the same, behind a password.
 *
 * As root it runs under another user (Postgres refuses root) who can't enter the home (mode 0700, perhaps in /root).
 * It is therefore started inside its data directory, which it owns, and told that this is `/proc/self/cwd`: paths
 * below the current directory need no permission above it.
 */
export type LocalPostgres = {
  readonly url: string
  /** `18.4` */
  readonly version: string
  readonly program: Program
  /** Resolves when it takes connections; throws a SetupError with the log's last words when it ended or took too long. */
  readonly ready: (server: Guarded, signal?: AbortSignal) => Promise<void>
}

export type StartedPostgres = LocalPostgres & { readonly server: Guarded; readonly stop: () => Promise<Exit> }

const user = 'tenterhook'
const database = 'tenterhook'
const initTimeoutMs = 120_000
/** Recovery after a power loss reads up to max_wal_size (1 GB). */
const readyTimeoutMs = 120_000
/** A fast shutdown ends with a checkpoint. */
const graceMs = 30_000
const pollMs = 10
const startTriesMax = 3

/** What durability says stands first, although it is the default: an operator reads it here. */
const settings: Readonly<Record<string, string>> = {
  fsync: 'on',
  full_page_writes: 'on',
  synchronous_commit: 'on',
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '', // a socket's path holds 107 bytes, a clone's path may be longer
  max_connections: '100',
  // A feed looks at each day of deliveries, and each of them has its indexes.
  max_locks_per_transaction: '1024',
  shared_buffers: '128MB',
  max_wal_size: '1GB',
  checkpoint_timeout: '15min',
  jit: 'off', // compiling costs more than the short statements of this product take
  log_timezone: 'UTC',
  timezone: 'UTC',
}

/** Makes the cluster when there is none, and says how to start it. `<home>/run` and `<home>/logs` exist. */
export async function preparePostgres(home: string): Promise<LocalPostgres> {
  const directory = join(home, 'postgres')
  try {
    const runAs = await chooseUser(directory)
    const [binaries, access] = await Promise.all([
      findPostgresBinaries(runAs),
      rememberAccess(join(home, 'postgres.json')),
    ])
    const cluster = await clusterVersion(directory)
    if (cluster === undefined) await initCluster({ home, directory, binaries, access, runAs })
    else if (cluster !== binaries.version.split('.')[0]) {
      throw new SetupError(
        'postgres_failed',
        `${directory} was made by Postgres ${cluster}, this version runs ${binaries.version}: move it away, or set DATABASE_URL`,
      )
    }
    await dropStaleLock(directory)
    const program: Program = {
      name: 'postgres',
      command: binaries.postgres,
      args: [
        '-D',
        pathSeen(directory, runAs),
        '-p',
        String(access.port),
        ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
      ],
      env: serverEnv,
      cwd: directory,
      logPath: join(home, 'logs/postgres.log'),
      recordPath: join(home, 'run/postgres.json'),
      ...(runAs && { runAs }),
      stopSignal: 'SIGINT', // "fast": ends sessions, unlike SIGTERM, which waits for them
      graceMs,
    }
    return {
      url: `postgres://${user}:${access.password}@127.0.0.1:${access.port}/${database}`,
      version: binaries.version.split('.').slice(0, 2).join('.'),
      program,
      ready: (server, signal) => waitReady({ server, directory, logPath: program.logPath, signal }),
    }
  } catch (error) {
    throw explainFileError(error, directory, 'run as its owner, or set TENTERHOOK_HOME to a directory of yours')
  }
}

/** Starts a private Postgres without supervision: for tests and for commands that need one for a moment. */
export async function startPostgres({
  home,
  signal,
}: {
  home: string
  signal?: AbortSignal
}): Promise<StartedPostgres> {
  await openServerDirectories(home)
  for (let tries = 1; ; tries += 1) {
    const postgres = await preparePostgres(home)
    const server = guard(postgres.program)
    try {
      await postgres.ready(server, signal)
      return { ...postgres, server, stop: server.stop }
    } catch (error) {
      await server.stop()
      // Somebody took the port between the look and the start: the next look sees it.
      if (tries === startTriesMax || (await probePort(Number(new URL(postgres.url).port))) === 'free') throw error
    }
  }
}

/** The user's own PG… and LC_… variables would steer the server and initdb. */
const serverEnv = { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' }

function pathSeen(directory: string, runAs: RunAs | undefined): string {
  return runAs === undefined ? directory : '/proc/self/cwd'
}

/** Undefined: as ourselves. Root needs another user: the one who owns the data, else `postgres`, else `nobody`. */
async function chooseUser(directory: string): Promise<RunAs | undefined> {
  if (process.getuid?.() !== 0) return undefined
  if (process.platform !== 'linux')
    throw new SetupError('postgres_user', 'Postgres does not run as root: start Tenterhook as an ordinary user')
  try {
    const { uid, gid } = await stat(directory)
    if (uid !== 0) return { uid, gid }
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error
  }
  for (const name of ['postgres', 'nobody']) {
    try {
      const ids = await Promise.all(['-u', '-g'].map((flag) => promisify(execFile)('id', [flag, name])))
      const [uid, gid] = ids.map(({ stdout }) => Number.parseInt(stdout, 10))
      if (uid !== undefined && gid !== undefined && uid > 0) return { uid, gid }
    } catch {
      continue // no such user
    }
  }
  throw new SetupError(
    'postgres_user',
    'Postgres does not run as root, and this machine has no user `postgres` or `nobody`: start Tenterhook as an ordinary user',
  )
}

async function clusterVersion(directory: string): Promise<string | undefined> {
  try {
    return (await readFile(join(directory, 'PG_VERSION'), 'utf8')).trim()
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw error
  }
}

type Cluster = { home: string; directory: string; binaries: PostgresBinaries; access: Access; runAs: RunAs | undefined }

/** Made beside its place and renamed at the end: a start that was killed half-way leaves nothing that looks like a cluster. */
async function initCluster({ home, directory, binaries, access, runAs }: Cluster): Promise<void> {
  const partial = join(home, 'postgres.new')
  await rm(partial, { recursive: true, force: true })
  await mkdir(partial, { mode: 0o700 })
  if (runAs) await chown(partial, runAs.uid, runAs.gid)
  const place = pathSeen(partial, runAs)
  const run = async (command: string, args: string[], input: string) => {
    // Through `cat`, because Node's stdin is a socket, and /dev/stdin of a socket can't be opened.
    const running = promisify(execFile)('/bin/sh', ['-c', 'cat | "$@"', 'sh', command, ...args], {
      cwd: partial,
      env: serverEnv,
      timeout: initTimeoutMs,
      ...runAs,
    })
    running.child.stdin?.on('error', () => {}) // what ended before it read its input says why on stderr
    running.child.stdin?.end(input)
    await running
  }
  try {
    // Without the locale and the encoding a machine with LANG unset makes a SQL_ASCII cluster, which checks no bytes.
    const locale = ['--encoding=UTF8', '--locale=C', '--no-instructions']
    await run(
      binaries.initdb,
      ['-D', place, '-U', user, '--auth=scram-sha-256', '--pwfile=/dev/stdin', ...locale],
      `${access.password}\n`,
    )
    await run(binaries.postgres, ['--single', '-D', place, 'postgres'], `CREATE DATABASE ${database};\n`)
  } catch (error) {
    throw new SetupError('postgres_failed', `Postgres could not make its files in ${partial}: ${lastWords(error)}`, {
      cause: error,
    })
  }
  await rename(partial, directory) // fails, rightly, on a directory that holds something else
}

/**
 * Postgres refuses to start while the pid in its lock file lives, even when that pid was given to another program
 * since: after a power loss that stops it for good. The caller holds the home's lock and has ended what was left.
 */
async function dropStaleLock(directory: string): Promise<void> {
  const path = join(directory, 'postmaster.pid')
  const pid = Number.parseInt((await readIfThere(path)).split('\n')[0] ?? '', 10)
  if (Number.isNaN(pid) || processName(pid) === 'postgres') return
  await rm(path, { force: true })
}

type Waiting = { server: Guarded; directory: string; logPath: string; signal: AbortSignal | undefined }

async function waitReady({ server, directory, logPath, signal }: Waiting): Promise<void> {
  const ended = server.exited.then(() => true)
  for (let waitedMs = 0; waitedMs < readyTimeoutMs; waitedMs += pollMs) {
    signal?.throwIfAborted()
    // The last line of the lock file is Postgres's own word for `pg_ctl --wait`: starting, ready, stopping.
    const lock = (await readIfThere(join(directory, 'postmaster.pid'))).split('\n')
    if (lock[0] === String(server.pid) && lock[7]?.trim() === 'ready') return
    if (await Promise.race([ended, pause(pollMs)])) break
  }
  const said = (await tailLog(logPath, 5)).findLast((line) => /FATAL|ERROR|PANIC/.test(line)) ?? 'it took too long'
  throw new SetupError('postgres_failed', `Postgres did not start: ${said} (more in ${logPath})`)
}

async function readIfThere(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return ''
    throw error
  }
}

function pause(ms: number): Promise<false> {
  return new Promise((resolve) => setTimeout(() => resolve(false), ms))
}
