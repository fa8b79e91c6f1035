/**
 * What processes cost, from the outside: CPU seconds and resident memory by name, each name a process and all its
 * descendants (Postgres is a tree).
 */
import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { cpus } from 'node:os'
import { promisify } from 'node:util'

export type Usage = { cpuSeconds: number; rssBytes: number }

export type ProcessRow = Usage & {
  pid: number
  parent: number
  /** The part of rssBytes that may be shared within a tree: counted once for it, by the largest. */
  sharedBytes: number
}

export async function usageOf(roots: Record<string, number>): Promise<Record<string, Usage>> {
  return usageByName(process.platform === 'linux' ? await readProc() : await readPs(), roots)
}

/** What all processes of the machine have used since it started. */
export function machineCpuSeconds(): number {
  return cpus().reduce((sum, { times }) => sum + (times.user + times.nice + times.sys + times.irq) / 1_000, 0)
}

export function usageByName(rows: readonly ProcessRow[], roots: Record<string, number>): Record<string, Usage> {
  return Object.fromEntries(Object.entries(roots).map(([name, pid]) => [name, sumTree(rows, pid)]))
}

function sumTree(rows: readonly ProcessRow[], root: number): Usage {
  const family = new Set([root])
  // A child may stand before its parent in the list (pids wrap around), so look until nobody is added.
  for (let before = 0; before !== family.size;) {
    before = family.size
    for (const row of rows) if (family.has(row.parent)) family.add(row.pid)
  }
  const members = rows.filter((row) => family.has(row.pid))
  const shared = Math.max(0, ...members.map((row) => row.sharedBytes))
  return {
    cpuSeconds: members.reduce((sum, row) => sum + row.cpuSeconds, 0),
    rssBytes: shared + members.reduce((sum, row) => sum + row.rssBytes - row.sharedBytes, 0),
  }
}

/** USER_HZ: 100 on every Linux that Node runs on. */
const ticksPerSecond = 100

async function readProc(): Promise<ProcessRow[]> {
  const pids = (await readdir('/proc')).map(Number).filter((pid) => pid > 0)
  const rows = await Promise.all(
    pids.map(async (pid) => {
      try {
        const [stat, status] = await Promise.all([
          readFile(`/proc/${pid}/stat`, 'utf8'),
          readFile(`/proc/${pid}/status`, 'utf8'),
        ])
        return parseProc(pid, stat, status)
      } catch {
        return undefined // it ended between the listing and the reading; its time is in its parent's cutime
      }
    }),
  )
  return rows.filter((row) => row !== undefined)
}

/** proc_pid_stat(5), proc_pid_status(5). The command may hold spaces and brackets, so fields count from the last ")". */
export function parseProc(pid: number, stat: string, status: string): ProcessRow {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const field = (number: number) => Number(fields[number - 3])
  const kilobytes = (key: string) => 1_024 * Number(new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0)
  const sharedBytes = kilobytes('RssFile') + kilobytes('RssShmem')
  return {
    pid,
    parent: field(4),
    // utime, stime, and cutime, cstime: the time of children that ended and were waited for.
    cpuSeconds: (field(14) + field(15) + field(16) + field(17)) / ticksPerSecond,
    rssBytes: kilobytes('RssAnon') + sharedBytes,
    sharedBytes,
  }
}

async function readPs(): Promise<ProcessRow[]> {
  const { stdout } = await promisify(execFile)('ps', ['-axo', 'pid=,ppid=,rss=,time='], { maxBuffer: 16 * 1024 * 1024 })
  return parsePs(stdout)
}

/** Elsewhere `ps` doesn't tell shared pages apart: a tree's memory is the plain sum, and too high. */
export function parsePs(output: string): ProcessRow[] {
  const rows: ProcessRow[] = []
  for (const line of output.split('\n')) {
    const [pid, parent, kilobytes, time] = line.trim().split(/\s+/)
    if (time === undefined) continue
    rows.push({
      pid: Number(pid),
      parent: Number(parent),
      rssBytes: 1_024 * Number(kilobytes),
      sharedBytes: 0,
      cpuSeconds: parseTime(time),
    })
  }
  return rows
}

/** `[[days-]hours:]minutes:seconds[.hundredths]` */
function parseTime(time: string): number {
  const [clock = '', days = '0'] = time.split('-').reverse()
  return Number(days) * 86_400 + clock.split(':').reduce((sum, part) => sum * 60 + Number(part), 0)
}
