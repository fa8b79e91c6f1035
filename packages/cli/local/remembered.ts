import { randomBytes } from 'node:crypto'
import { readFile, rename, writeFile } from 'node:fs/promises'

import { chooseLastingPort } from './ports.ts'
import { systemCode } from './setup-error.ts'

/** Where a private server listens on 127.0.0.1, and the password that keeps other users of the machine out. */
export type Access = { readonly port: number; readonly password: string }

const passwordBytes = 24

/**
 * The same port and password as at the last start, so that a URL that somebody copied goes on working; another port
 * when somebody else has taken it. Kept in `path`, mode 0600.
 */
export async function rememberAccess(path: string): Promise<Access> {
  const before = await readAccess(path)
  const access = {
    port: await chooseLastingPort(before?.port),
    password: before?.password ?? randomBytes(passwordBytes).toString('base64url'),
  }
  if (access.port !== before?.port) {
    await writeFile(`${path}.new`, JSON.stringify(access), { mode: 0o600 })
    await rename(`${path}.new`, path)
  }
  return access
}

async function readAccess(path: string): Promise<Access | undefined> {
  try {
    const kept: unknown = JSON.parse(await readFile(path, 'utf8'))
    if (typeof kept !== 'object' || kept === null || !('port' in kept && 'password' in kept)) return undefined
    return typeof kept.port === 'number' && typeof kept.password === 'string'
      ? { port: kept.port, password: kept.password }
      : undefined
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || error instanceof SyntaxError) return undefined
    throw error
  }
}
