import { linkSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'

import { signalled } from './child.mjs'
import { ifThere } from './files.mjs'
import { Refusal } from './refusal.mjs'

const heartbeatMs = 1_000
/** A lock whose heart has not beaten for this long belongs to nobody, whoever has its pid now. */
const heartbeatsMissedMax = 10

/** Two first starts at once must not write the same files. Killed holders are noticed by their pid or their heartbeat. */
export async function whileLocked(lockPath, work) {
  await takeLock(lockPath)
  const heart = setInterval(() => {
    const now = new Date()
    ifThere(() => utimesSync(lockPath, now, now))
  }, heartbeatMs)
  try {
    await work()
  } finally {
    clearInterval(heart)
    rmSync(lockPath, { force: true })
  }
}

async function takeLock(lockPath) {
  const mine = `${lockPath}.${process.pid}`
  writeFileSync(mine, String(process.pid))
  try {
    let lastBeat
    let missed = 0
    while (!signalled()) {
      try {
        linkSync(mine, lockPath) // unlike a create, it appears with its content
        return
      } catch (error) {
        if (error.code !== 'EEXIST') throw error
      }
      const holder = look(lockPath)
      if (holder === undefined) continue
      missed = holder.beat === lastBeat ? missed + 1 : 0
      if (lastBeat === undefined && holder.alive)
        process.stdout.write(`waiting for another install (pid ${holder.pid}) ...\n`)
      lastBeat = holder.beat
      if (!holder.alive || missed > heartbeatsMissedMax) {
        removeLockOf(holder.pid, lockPath, `${mine}.stale`)
        continue
      }
      await pause(heartbeatMs)
    }
    throw new Refusal('stopped')
  } finally {
    rmSync(mine, { force: true })
  }
}

function look(path) {
  return ifThere(() => {
    const pid = Number(readFileSync(path, 'utf8'))
    return { pid, beat: statSync(path).mtimeMs, alive: isAlive(pid) }
  })
}

function isAlive(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

/** Of several that see a dead holder at once one renames its lock; another that comes late puts back what it took. */
function removeLockOf(pid, lockPath, aside) {
  ifThere(() => {
    renameSync(lockPath, aside)
    if (Number(readFileSync(aside, 'utf8')) !== pid) linkSync(aside, lockPath)
  })
  rmSync(aside, { force: true })
}
