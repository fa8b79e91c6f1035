import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { access, chmod, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'

import type { Environment } from './redis-binary.ts'
import { explainFileError, systemCode } from './setup-error.ts'

/**
 * The directory of one local Tenterhook, `.tenterhook/` (mode 0700):
 *
 *   admin-token       what the console asks for (0600)
 *   encryption-keys   what secrets in Postgres are encrypted under (0600); without it they can't be read again
 *   postgres/ redis/  data, with postgres.json and redis.json: port and password (0600)
 *   logs/             a file for each process
 *   state.json        the URLs of what is running, for the CLI (0600); gone when nothing runs
 *   lock, pid, run/   who runs, and what it started
 */
export type RunningState = {
  readonly pid: number
  readonly databaseUrl: string
  readonly redisUrl: string
  readonly ingestUrl: string
  readonly consoleUrl: string
  /** Ops servers (`/metrics`, `/livez`, `/readyz`) by service. */
  readonly opsUrls: Readonly<Record<string, string>>
  readonly demoUrl?: string
}

const tokenBytes = 32
const keyBytes = 32
export const homeAdvice = 'run as its owner, or set TENTERHOOK_HOME to a directory of yours'

/** `TENTERHOOK_HOME`, else `.tenterhook` in the repository. */
export function homePath({ env, root }: { env: Environment; root: string }): string {
  return resolve(env['TENTERHOOK_HOME'] || join(root, '.tenterhook'))
}

/** Makes the home if there is none and closes it to others; a SetupError when it can't be written. */
export async function openHome(home: string): Promise<void> {
  try {
    await mkdir(home, { recursive: true, mode: 0o700 })
    await access(home, constants.R_OK | constants.W_OK | constants.X_OK)
    await chmod(home, 0o700)
  } catch (error) {
    throw explainFileError(error, home, homeAdvice)
  }
}

/** The admin token in force, made if there was none. A given one (`TENTERHOOK_ADMIN_TOKEN`) is kept for the CLI. */
export async function ensureAdminToken(
  home: string,
  given: string | undefined,
): Promise<{ token: string; made: boolean }> {
  const kept = await readAdminToken(home)
  if (given !== undefined) {
    if (given !== kept) await writeSecret(tokenPath(home), given)
    return { token: given, made: false }
  }
  return kept === undefined ? { token: await resetAdminToken(home), made: true } : { token: kept, made: false }
}

/** The kept admin token; undefined before the first start. */
export function readAdminToken(home: string): Promise<string | undefined> {
  return readSecret(tokenPath(home))
}

/** Makes and keeps a new admin token. A console that reads the file asks for it from the next request on. */
export async function resetAdminToken(home: string): Promise<string> {
  const token = `tha_${randomBytes(tokenBytes).toString('base64url')}`
  await writeSecret(tokenPath(home), token)
  return token
}

/** The list in `TENTERHOOK_ENCRYPTION_KEYS`'s form, `k1:<base64 of 32 bytes>[,…]`, current first: given, kept, or made. */
export async function ensureEncryptionKeys(home: string, given: string | undefined): Promise<string> {
  if (given !== undefined) return given
  const kept = await readEncryptionKeys(home)
  if (kept !== undefined) return kept
  const made = newEncryptionKey('k1')
  await writeSecret(keysPath(home), made)
  return made
}

/** The kept encryption keys; undefined before the first start. */
export function readEncryptionKeys(home: string): Promise<string | undefined> {
  return readSecret(keysPath(home))
}

/** Puts a new key before the kept ones, which still decrypt; returns its id. Whoever runs must be started again first. */
export async function rotateEncryptionKeys(home: string, kept: string): Promise<string> {
  const numbers = [...kept.matchAll(/(?:^|,)\s*k(\d{1,9}):/g)].map(([, number]) => Number(number))
  const id = `k${Math.max(0, ...numbers) + 1}`
  await writeSecret(keysPath(home), `${newEncryptionKey(id)},${kept}`)
  return id
}

function newEncryptionKey(id: string): string {
  return `${id}:${randomBytes(keyBytes).toString('base64')}`
}

export async function writeState(home: string, state: RunningState): Promise<void> {
  await writeSecret(statePath(home), JSON.stringify(state, null, 2))
}

export async function clearState(home: string): Promise<void> {
  await rm(statePath(home), { force: true })
}

/** What runs in this home; undefined when nothing does, also after a crash that left its state behind. */
export async function readState(home: string): Promise<RunningState | undefined> {
  const text = await readSecret(statePath(home))
  if (text === undefined) return undefined
  const state = JSON.parse(text) as RunningState
  return isAlive(state.pid) ? state : undefined
}

export const tokenPath = (home: string) => join(home, 'admin-token')
const keysPath = (home: string) => join(home, 'encryption-keys')
const statePath = (home: string) => join(home, 'state.json')

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return systemCode(error) === 'EPERM'
  }
}

async function readSecret(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, 'utf8')).trim() || undefined
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw explainFileError(error, path, homeAdvice)
  }
}

/** Whole or not at all: half an encryption key would be worse than none. */
async function writeSecret(path: string, secret: string): Promise<void> {
  try {
    await writeFile(`${path}.new`, `${secret}\n`, { mode: 0o600, flush: true })
    await rename(`${path}.new`, path)
  } catch (error) {
    throw explainFileError(error, path, homeAdvice)
  }
}
