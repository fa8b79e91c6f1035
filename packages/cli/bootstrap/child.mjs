// The child processes of the bootstrap: none outlives it, and what it is told they are told.

import { spawn } from 'node:child_process'
import { constants } from 'node:os'

/** Ctrl-C reaches us from the terminal and again from npm, at once; a person's second one comes later. */
const sameSignalMs = 1_000

const children = new Set()
let told

/** The first signal that we got; undefined while we got none. */
export function signalled() {
  return told?.signal
}

/**
 * Spawns a program with a guardian: a forked shell that reads a pipe only we can write to. Told `done` it leaves; at
 * the pipe's end without a word, because we were killed, it stops the program, or with scope `group` the whole group.
 */
export function spawnGuarded({ scope, program, args, env, cwd, stdio }) {
  const script = `
    scope=$1; shift
    target=$$; [ "$scope" = group ] && target=-$$
    (
      trap '' INT TERM HUP
      exec >/dev/null 2>&1
      read -r done <&3 && exit
      kill -s TERM -- "$target"
      tenths=400
      while [ "$tenths" -gt 0 ] && kill -0 $$; do
        if read -r stat </proc/$$/stat; then case $stat in *') Z '*) break ;; esac; fi
        sleep 0.1; tenths=$((tenths - 1))
      done
      kill -s KILL -- "$target"
    ) &
    exec 3<&-
    exec "$@"`
  const child = spawn('/bin/sh', ['-c', script, 'tenterhook-guardian', scope, program, ...args], {
    cwd,
    env,
    detached: scope === 'group',
    stdio: [stdio === 'inherit' ? 'inherit' : 'ignore', stdio, stdio, 'pipe'],
  })
  const leash = child.stdio[3]
  leash.on('error', () => {}) // the guardian was killed
  const entry = { child, scope }
  children.add(entry)
  child.on('exit', () => {
    children.delete(entry)
    leash.end('done\n')
  })
  return child
}

/**
 * Tells the children. To a group of its own no terminal's Ctrl-C comes: it is stopped whole, and killed when a person
 * insists. Others get what we got.
 */
export function passOn(signal) {
  told ??= { signal, atMs: performance.now() }
  const insisted = performance.now() - told.atMs > sameSignalMs
  for (const { child, scope } of children) {
    if (scope === 'process') child.kill(signal)
    else killGroup(child.pid, insisted ? 'SIGKILL' : 'SIGTERM')
  }
}

export function killGroup(pid, signal) {
  try {
    process.kill(-pid, signal)
  } catch {
    // it is gone
  }
}

/** What a shell shows for a process that a signal ended. */
export function exitCodeOf(signal) {
  return 128 + (constants.signals[signal] ?? 0)
}
