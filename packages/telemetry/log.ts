import { pino, stdTimeFunctions } from 'pino'
import type { Logger } from 'pino'
import { censorFields } from './log-fields.ts'
import { openStdout, type LineWriter } from './stdout.ts'

export const logLevels = ['silent', 'fatal', 'error', 'warn', 'info', 'debug'] as const
export type LogLevel = (typeof logLevels)[number]

/**
 * One line per unit of work. `event` names the unit (`event.accepted`, `event.routed`, `delivery.attempted`,
 * `delivery.dead`, `service.ready` …); the other fields carry ids, `traceId`, `outcome`, durations as `…Ms`, and
 * `error`.
 */
export type LogFields = { readonly event: string; readonly [field: string]: unknown }

type Write = (fields: LogFields, sentence?: string) => void

export type Log = {
  readonly fatal: Write
  readonly error: Write
  readonly warn: Write
  readonly info: Write
  readonly debug: Write
  /** A logger whose every line carries `fields` too. */
  readonly child: (fields: Readonly<Record<string, unknown>>) => Log
}

/**
 * JSON lines on stdout, or on `destination`: ISO 8601 time, level by name, service, pid, the fields. Fields named like
 * secrets are censored as a last line of defence; callers don't log them in the first place.
 *
 * A line is on its way within 100 ms, and at once at exit and on `fatal`. kill -9 loses what was still waiting.
 */
export function createLogger({
  service,
  level,
  destination,
}: {
  service: string
  level: LogLevel
  destination?: LineWriter
}): Log {
  const stdout =
    destination === undefined
      ? openStdout({
          onDropped: (lines) => log.warn({ event: 'log.dropped', lines }, 'the reader of stdout was too slow'),
        })
      : undefined
  const log = narrow(
    pino(
      {
        level,
        base: { service, pid: process.pid },
        timestamp: stdTimeFunctions.isoTime,
        formatters: { level: (label) => ({ level: label }), log: censorFields },
      },
      destination ?? stdout,
    ),
    () => stdout?.flush(),
  )
  return log
}

/** The part of pino that is used here. pino censors lines by its formatter, but never the fields of a child. */
function narrow(logger: Logger, flush: () => void): Log {
  return {
    fatal: (fields, sentence) => {
      logger.fatal(fields, sentence)
      flush()
    },
    error: (fields, sentence) => logger.error(fields, sentence),
    warn: (fields, sentence) => logger.warn(fields, sentence),
    info: (fields, sentence) => logger.info(fields, sentence),
    debug: (fields, sentence) => logger.debug(fields, sentence),
    child: (fields) => narrow(logger.child(censorFields(fields)), flush),
  }
}
