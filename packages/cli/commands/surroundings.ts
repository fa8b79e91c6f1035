import type { Environment } from '../local/redis-binary.ts'

/** What a command knows of the process it runs in; tests of a command's parts give their own. */
export interface Surroundings {
  /** The repository. */
  readonly root: string
  /** `.tenterhook/`, or where TENTERHOOK_HOME says. */
  readonly home: string
  /** Where the caller stands: paths are relative to it. */
  readonly cwd: string
  readonly env: Environment
  /** How whoever stands there calls us, for advice that names a command: `npx tenterhook` inside the repository. */
  readonly program: string
  /** A line of what was asked for, to stdout. */
  readonly out: (line: string) => void
  /** A line about it, to stderr: warnings, what is waited for. */
  readonly note: (line: string) => void
  /** Bytes as they are, to stdout. */
  readonly write: (bytes: Buffer) => Promise<void>
  /** The exit code, unless something is thrown. */
  readonly exitWith: (code: number) => void
  /** Aborted by the first SIGINT, SIGTERM or SIGHUP; asked for by commands that run until then. */
  readonly stopSignal: () => AbortSignal
  readonly nowMs: () => number
  readonly monotonicMs: () => number
  /** Another text at each call: letters and digits. */
  readonly uniqueId: () => string
}
