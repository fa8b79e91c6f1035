import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * An empty directory for a run's data, beside the data of `npm start` and not in /tmp: that may be memory, where fsync
 * costs nothing. What runs left that were killed is removed, known by the process in its name being gone.
 */
export async function makeHome(parent: string, pid: number): Promise<string> {
  await mkdir(parent, { recursive: true, mode: 0o700 })
  for (const name of await readdir(parent)) {
    const owner = Number(/^bench-(\d+)$/.exec(name)?.[1])
    if (owner > 0 && (owner === pid || !isAlive(owner)))
      await rm(join(parent, name), { recursive: true, force: true, maxRetries: 3 })
  }
  const home = join(parent, `bench-${pid}`)
  await mkdir(home, { mode: 0o700 })
  return home
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}
