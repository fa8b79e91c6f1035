/** What each `npm run bench -- <name>` is to main.ts, and what main.ts gives it. */
export type Command = {
  /** The whole of --help, its first line the way to call it. */
  help: string
  /** Reads its own arguments: those after its name. */
  run(args: string[], setting: Setting): Promise<Findings>
}

export type Setting = {
  /** Of the repository. */
  root: string
  /** A directory of this run's own, removed at its end. */
  home: string
  env: Readonly<Record<string, string | undefined>>
  /** Released in reverse at the end, however it comes. */
  resources: AsyncDisposableStack
  signal: AbortSignal
  say: (line: string) => void
  /** Told when a process ends that should not: ends the run. */
  onDeath: (error: Error) => void
}

export type Findings = {
  text: string
  /** Printed as one line of JSON when asked for. */
  summary: object
  json: boolean
  /** Whether all that was promised was seen: the exit code. */
  holds: boolean
}

/** Arguments that no run can be made of; the message says which ones can. */
export class UsageError extends Error {}
