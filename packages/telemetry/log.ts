import { destination as openDestination, pino, stdTimeFunctions } from 'pino'
import type { Logger } from 'pino'
import { censorFields } from './log-fields.ts'

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

/** Where lines go: one call per line, newline included. */
export type LogDestination = { write(line: string): void }

/** Lines wait until this many bytes came together, so that a busy service pays one write(2) for dozens of them… (under pino's largest write of 16 KiB) */
const writeBytesMin = 15 * 1_024
/** … or until this long has passed, so that a quiet service's lines are still seen as they happen. */
const flushIntervalMs = 100
/** What a reader of stdout that hangs may cost. Later lines are dropped and counted; the service goes on. */
const bufferedBytesMax = 8 * 1024 * 1024

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
  destination?: LogDestination
}): Log {
  const stdout = destination === undefined ? openStdout() : undefined
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
  )

  let droppedLines = 0
  stdout?.on('drop', () => {
    droppedLines += 1
  })
  stdout?.on('drain', () => {
    if (droppedLines === 0) return
    const lines = droppedLines
    droppedLines = 0
    log.warn({ event: 'log.dropped', lines }, 'the reader of stdout was too slow')
  })
  return log
}

/** The part of pino that is used here. pino censors lines by its formatter, but never the fields of a child. */
function narrow(logger: Logger): Log {
  return {
    fatal: (fields, sentence) => logger.fatal(fields, sentence),
    error: (fields, sentence) => logger.error(fields, sentence),
    warn: (fields, sentence) => logger.warn(fields, sentence),
    info: (fields, sentence) => logger.info(fields, sentence),
    debug: (fields, sentence) => logger.debug(fields, sentence),
    child: (fields) => narrow(logger.child(censorFields(fields))),
  }
}

function openStdout() {
  return openDestination({
    dest: 1,
    sync: false,
    minLength: writeBytesMin,
    periodicFlush: flushIntervalMs,
    maxLength: bufferedBytesMax,
  })
}
