export type SetupErrorCode =
  | 'already_running'
  | 'permission_denied'
  | 'disk_full'
  | 'port_in_use'
  | 'bad_option'
  | 'no_postgres_binaries'
  | 'postgres_user'
  | 'postgres_failed'
  | 'no_redis'
  | 'redis_failed'
  | 'service_failed'
  | 'preparation_failed'

/** A reason not to start that a person can act on. The message is one line that says what to do; it is shown without a stack. */
export class SetupError extends Error {
  readonly code: SetupErrorCode
  constructor(code: SetupErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'SetupError'
    this.code = code
  }
}

/** The `code` of a system error (`EACCES`, `ENOENT` …), undefined for anything else. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}

/** What a program that failed said last on stderr, or the error's own message. */
export function lastWords(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const stderr = 'stderr' in error && typeof error.stderr === 'string' ? error.stderr.trim() : ''
  return stderr.split('\n').at(-1) || error.message
}

/** Turns what the file system refuses into one clear line that ends in the advice; gives back any other error as it is. */
export function explainFileError(error: unknown, path: string, advice: string): unknown {
  switch (systemCode(error)) {
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new SetupError('permission_denied', `no permission to write ${path}: ${advice}`, { cause: error })
    case 'ENOTDIR':
    case 'EEXIST':
      return new SetupError('bad_option', `${path} is not a directory: ${advice}`, { cause: error })
    case 'ENOSPC':
    case 'EDQUOT':
      return new SetupError('disk_full', `no space left on the disk of ${path}`, { cause: error })
    default:
      return error
  }
}
