import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

/**
 * When a process started, in words that only compare for equality; undefined when there is none. With the pid it names
 * one process for good: a pid alone is given to another process soon after, and at once after a reboot.
 */
export function processStart(pid: number): string | undefined {
  if (process.platform === 'linux') {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
      // proc_pid_stat(5): field 2 is a name in parentheses that may itself hold any character; 3 is the state, 22 the start.
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      return fields[0] === 'Z' ? undefined : fields[19]
    } catch {
      return undefined // no such process is the only way this file can't be read
    }
  }
  const { stdout } = spawnSync('/bin/ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8' })
  return stdout.trim() || undefined
}

/** The name of a process's program, without its directory; undefined when there is no such process. */
export function processName(pid: number): string | undefined {
  if (process.platform === 'linux') {
    try {
      return readFileSync(`/proc/${pid}/comm`, 'utf8').trim()
    } catch {
      return undefined
    }
  }
  const { stdout } = spawnSync('/bin/ps', ['-o', 'comm=', '-p', String(pid)], { encoding: 'utf8' })
  return stdout.trim().split('/').at(-1) || undefined
}
