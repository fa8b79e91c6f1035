export type CommandErrorCode =
  | 'not_running'
  | 'keys_unknown'
  | 'file_unreadable'
  | 'database_unusable'
  | 'console_unreachable'
  | 'token_unknown'
  | 'token_wrong'
  | 'refused_by_console'
  | 'ingest_unreachable'
  | 'bad_argument'

/** A reason not to do what was asked that a person can act on: one line, shown without a stack. */
export class CommandError extends Error {
  readonly code: CommandErrorCode
  constructor(code: CommandErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'CommandError'
    this.code = code
  }
}

/** The configuration file is wrong: `tenterhook.yaml:12: destinations.crm.url: expected …`, a line for each problem. */
export class ConfigFileError extends Error {
  readonly code = 'config_invalid'
  readonly lines: readonly string[]
  constructor(lines: readonly string[]) {
    super(lines.join('\n'))
    this.name = 'ConfigFileError'
    this.lines = lines
  }
}
