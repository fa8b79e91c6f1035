import { spawn } from 'node:child_process'
import { appendFileSync, closeSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Writable } from 'node:stream'

import { invariant } from '@tenterhook/lifecycle/invariant'

import { processStart } from './process-start.ts'
import { systemCode } from './setup-error.ts'

/**
 * Runs a program that must end when its starter ends, however that ends.
 *
 * - G1: the program leads a process group of its own, so a terminal's Ctrl-C does not reach it.
 * - G2: a guardian in that group reads a pipe, the leash, that only the starter (and `holds`) can write to. When the
 *   last of them is gone the read ends, and the guardian stops the program: its signal first, SIGKILL after the grace.
 * - G3: the guardian is the shell that exec'ed the program, forked once: it takes 1 MB, starts at once, and what kills
 *   every `node` (out of memory, `killall node`) leaves it alive.
 * - G4: while the starter lives, the guardian does nothing: a second signal would cut a draining service short.
 *
 * A dead program whose starter is gone stays a zombie until init gets to it, which can take long in a container; the
 * guardian does not wait for that, nor keep from ending what waits for it (G2).
 *
 * The shell gets the program's user from its start, so that the guardian may signal it.
 */
const guardianScript = `
signal=$1 tenths=$2
shift 2
exec 9<&0 </dev/null
(
  exec >/dev/null 2>&1
  while read -r line; do :; done <&9
  kill -s "$signal" $$
  while [ "$tenths" -gt 0 ] && kill -0 $$; do
    if read -r stat </proc/$$/stat; then case $stat in *') Z '*) exit ;; esac; fi
    sleep 0.1
    tenths=$((tenths - 1))
  done
  kill -s KILL $$
) &
exec 9<&-
exec "$@"
`

const notStarted = 127

export type RunAs = { readonly uid: number; readonly gid: number }

export type Program = {
  /** Shown to people: `postgres`, `ingest`. */
  readonly name: string
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string
  /** stdout and stderr are appended here, by the program itself: its last words survive its starter. */
  readonly logPath: string
  /** Holds the program's pid while it runs, for whoever starts next: see `leftovers.ts`. */
  readonly recordPath: string
  readonly runAs?: RunAs
  readonly stopSignal: 'SIGTERM' | 'SIGINT'
  /** From the stop signal to SIGKILL. */
  readonly graceMs: number
}

export type Exit = { readonly code: number | null; readonly signal: NodeJS.Signals | null }

export type Guarded = {
  readonly pid: number
  readonly exited: Promise<Exit>
  /** A program started with this among its `holds` keeps this one alive until it has itself ended. */
  readonly leash: Writable
  /** Stops it: signal, grace, SIGKILL. Calls after the first share its promise. */
  readonly stop: () => Promise<Exit>
}

/** Where programs keep their logs and their records, below a home. */
export async function openServerDirectories(home: string): Promise<void> {
  for (const name of ['run', 'logs']) await mkdir(join(home, name), { recursive: true, mode: 0o700 })
}

/** Starts the program. One that can't be started exits at once, with a shell's code for that. */
export function guard(program: Program, holds: readonly Writable[] = []): Guarded {
  const log = openSync(program.logPath, 'a', 0o600)
  const stdio: ['pipe', number, number, ...Writable[]] = ['pipe', log, log, ...holds.filter((hold) => !hold.destroyed)]
  const child = spawn(
    '/bin/sh',
    [
      '-c',
      guardianScript,
      `tenterhook-${program.name}`,
      program.stopSignal.slice(3),
      String(Math.ceil(program.graceMs / 100)),
      program.command,
      ...program.args,
    ],
    { cwd: program.cwd, env: program.env, detached: true, stdio, ...program.runAs },
  )
  closeSync(log)
  const { pid, stdin: leash } = child
  invariant(leash, 'a piped stdin is a stream')
  leash.on('error', () => {}) // nothing is ever written; a program that could not be started is told by `exited`
  const exited = new Promise<Exit>((resolve) => {
    child.once('error', (error) => {
      appendFileSync(program.logPath, `could not be started: ${error.message}\n`)
      resolve({ code: notStarted, signal: null })
    })
    child.once('exit', (code, signal) => {
      // What is left of the group is the guardian; closing the leash first would have it signal a pid that is free again.
      if (pid !== undefined) signalGroup(pid, 'SIGKILL')
      leash.destroy()
      rmSync(program.recordPath, { force: true })
      resolve({ code, signal })
    })
  })
  if (pid === undefined) return { pid: 0, exited, leash, stop: () => exited }
  writeFileSync(
    program.recordPath,
    JSON.stringify({ name: program.name, pid, start: processStart(pid), stopSignal: program.stopSignal }),
  )

  let stopping: Promise<Exit> | undefined
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return exited
    child.kill(program.stopSignal)
    const kill = setTimeout(() => signalGroup(pid, 'SIGKILL'), program.graceMs)
    try {
      return await exited
    } finally {
      clearTimeout(kill)
    }
  }
  return { pid, exited, leash, stop: () => (stopping ??= stop()) }
}

/** Signals every process of a group; a group that is gone already is fine. */
export function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal)
  } catch (error) {
    // EPERM is how macOS says that only zombies are left in the group.
    if (systemCode(error) !== 'ESRCH' && systemCode(error) !== 'EPERM') throw error
  }
}
