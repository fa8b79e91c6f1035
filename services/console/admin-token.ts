import { createHash, timingSafeEqual } from 'node:crypto'
import { open } from 'node:fs/promises'
import { headerToken } from '@tenterhook/lifecycle/variables'

/** The one credential of the console. Asked for at every request, so that a reset counts at once. */
export interface AdminToken {
  /** Throws `AdminTokenError` when there is none to be had: then nobody is let in. */
  current(): Promise<string>
}

const tokenFileBytesMax = 4_096
/** A shorter token is taken, and warned about. */
export const safeTokenCharsMin = 16

/** The token given, or the one in the file, surrounding white space apart. */
export function adminToken({ token, file }: { token: string | undefined; file: string | undefined }): AdminToken {
  return {
    async current() {
      if (token !== undefined && file !== undefined) {
        throw new AdminTokenError(
          'admin_token_ambiguous',
          'set TENTERHOOK_ADMIN_TOKEN or TENTERHOOK_ADMIN_TOKEN_FILE, not both',
        )
      }
      if (token !== undefined) return token
      if (file === undefined) {
        throw new AdminTokenError('admin_token_missing', 'set TENTERHOOK_ADMIN_TOKEN, or TENTERHOOK_ADMIN_TOKEN_FILE')
      }
      const text = (await readStart(file)).trim()
      if (!headerToken.safeParse(text).success) {
        throw new AdminTokenError(
          'admin_token_unusable',
          `${file}: expected an admin token: visible ASCII characters, without spaces`,
        )
      }
      return text
    },
  }
}

async function readStart(file: string): Promise<string> {
  try {
    await using handle = await open(file)
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(tokenFileBytesMax), 0, tokenFileBytesMax, 0)
    return buffer.toString('utf8', 0, bytesRead)
  } catch (cause) {
    throw new AdminTokenError('admin_token_unreadable', `the admin token can't be read from ${file}`, cause)
  }
}

/** Compares in a time that says nothing about where two tokens differ, nor about their lengths. */
export function isSameToken(one: string, other: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(one), digest(other))
}

export class AdminTokenError extends Error {
  readonly code: 'admin_token_missing' | 'admin_token_ambiguous' | 'admin_token_unreadable' | 'admin_token_unusable'
  constructor(code: AdminTokenError['code'], message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'AdminTokenError'
    this.code = code
  }
}
