import { execFile } from 'node:child_process'
import { mkdir, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

/**
 * An empty directory for a round's data, on the disk and not in /tmp: that may be memory, where fsync says nothing.
 * What runs left that were killed is removed, known by the process in its name being gone.
 */
export async function makeHome(parent: string, pid: number, round: number): Promise<string> {
  await mkdir(parent, { recursive: true, mode: 0o700 })
  for (const name of await readdir(parent)) {
    const owner = Number(/^prove-(\d+)-\d+$/.exec(name)?.[1])
    if (owner > 0 && owner !== pid && !isAlive(owner)) await removeHome(join(parent, name))
  }
  const home = join(parent, `prove-${pid}-${round}`)
  await mkdir(home, { mode: 0o700 })
  return home
}

/** With the tmpfs that may still be mounted in it. */
export async function removeHome(home: string): Promise<void> {
  await unmount(home)
  await rm(home, { recursive: true, force: true, maxRetries: 3 })
}

/** Puts a round's journals and logs where no later run removes them, and says where that is. */
export async function keepHome(home: string, seed: number): Promise<string> {
  await unmount(home)
  const kept = join(home, '..', `proof-of-seed-${seed}`)
  await rm(kept, { recursive: true, force: true })
  await rename(home, kept)
  return kept
}

async function unmount(home: string): Promise<void> {
  await promisify(execFile)('umount', ['-l', join(home, 'postgres')]).catch(() => {}) // it seldom is mounted still
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}
