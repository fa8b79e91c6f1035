import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

/**
 * The living processes that belong to a directory: its path stands in their command line, or is where they run, as for
 * Postgres's own children. One line for each, for a test to show when there should be none.
 */
export function processesOf(directory: string): string[] {
  if (process.platform !== 'linux') {
    const { stdout } = spawnSync('ps', ['-axo', 'pid=,args='], { encoding: 'utf8' })
    return stdout.split('\n').filter((line) => line.includes(directory))
  }
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
  return pids.flatMap((pid) => {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
      const place = readlinkSync(`/proc/${pid}/cwd`)
      return command.includes(directory) || place.startsWith(directory) ? [`${pid} ${command.slice(-200)}`] : []
    } catch {
      return [] // it ended while we looked, or it is another user's
    }
  })
}
