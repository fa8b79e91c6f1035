import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { dirname, isAbsolute, join, relative, sep } from 'node:path'

import { Command } from 'commander'

import { applyCommand } from './commands/apply.ts'
import { cancelCommand } from './commands/cancel.ts'
import { CommandError, ConfigFileError } from './commands/command-error.ts'
import { destinationsCommand } from './commands/destinations.ts'
import { diffCommand } from './commands/diff.ts'
import { doctorCommand } from './commands/doctor.ts'
import { eventsCommand } from './commands/events.ts'
import { keysCommand } from './commands/keys.ts'
import { migrateCommand } from './commands/migrate.ts'
import { pauseCommand, resumeCommand } from './commands/pause.ts'
import { replayCommand } from './commands/replay.ts'
import { retryCommand } from './commands/retry.ts'
import type { Surroundings } from './commands/surroundings.ts'
import { tokenCommand } from './commands/token.ts'
import { triggerCommand } from './commands/trigger.ts'
import { upCommand } from './commands/up.ts'
import { homePath } from './local/home.ts'
import { SetupError } from './local/setup-error.ts'
import { stopSignal } from './local/stop-signal.ts'

const root = join(dirname(import.meta.filename), '../..')
const monotonicMs = () => performance.now()

const surroundings: Surroundings = {
  root,
  home: homePath({ env: process.env, root }),
  cwd: process.cwd(),
  env: process.env,
  program: isInside(root, process.cwd()) ? 'npx tenterhook' : 'tenterhook',
  out: (line) => void process.stdout.write(`${line}\n`),
  note: (line) => void process.stderr.write(`${line}\n`),
  write: (bytes) => new Promise((resolve) => process.stdout.write(bytes, () => resolve())),
  exitWith: (code) => {
    process.exitCode = code
  },
  stopSignal: () => stopSignal({ monotonicMs }),
  nowMs: Date.now,
  monotonicMs,
  uniqueId: () => randomUUID().replaceAll('-', ''),
}

const program = new Command('tenterhook')
  .description('Self-hosted webhook gateway.')
  .version(versionOf(join(root, 'package.json')), '--version', 'print the version')
  .helpCommand(false)
  .showHelpAfterError(`(${surroundings.program} --help tells what there is)`)
const commands = [
  upCommand,
  applyCommand,
  diffCommand,
  triggerCommand,
  eventsCommand,
  replayCommand,
  retryCommand,
  cancelCommand,
  destinationsCommand,
  pauseCommand,
  resumeCommand,
  doctorCommand,
  migrateCommand,
  tokenCommand,
  keysCommand,
]
for (const command of commands) program.addCommand(command(surroundings))

// Whoever read our output may leave before us (`npm start | head`); the run goes on.
process.stdout.on('error', () => {})

try {
  await program.parseAsync()
} catch (error) {
  process.stderr.write(`${linesOf(error).join('\n')}\n`)
  process.exitCode = 1
}

/** What a person can act on in a line; a fault of ours with its stack: nobody can mend it without. */
function linesOf(error: unknown): readonly string[] {
  if (error instanceof ConfigFileError) return error.lines
  if (error instanceof SetupError || error instanceof CommandError) return [`tenterhook: ${error.message}`]
  return [`tenterhook: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`]
}

function isInside(directory: string, path: string): boolean {
  const way = relative(directory, path)
  return !isAbsolute(way) && way.split(sep)[0] !== '..'
}

function versionOf(path: string): string {
  return String((JSON.parse(readFileSync(path, 'utf8')) as { version: unknown }).version)
}
