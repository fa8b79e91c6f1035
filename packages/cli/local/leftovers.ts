import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'

import { signalGroup } from './guardian.ts'
import { processStart } from './process-start.ts'

/** Longer than any guardian's grace: what is still there then has lost its guardian too. */
const guardedPatienceMsMax = 35_000
const stopPatienceMs = 10_000
const pollMs = 50

type Leftover = {
  readonly name: string
  readonly pid: number
  readonly start: string
  readonly stopSignal: NodeJS.Signals
}

/**
 * Waits until the programs of an earlier run in this home are gone: their guardians are stopping them when their starter
 * was killed a moment ago. One that has lost its guardian too is stopped here. The caller holds the home's lock.
 */
export async function endLeftovers({
  home,
  say,
  signal,
  guardedPatienceMs = guardedPatienceMsMax,
}: {
  home: string
  say: (line: string) => void
  signal: AbortSignal
  guardedPatienceMs?: number
}): Promise<void> {
  const left = (await readRecords(join(home, 'run'))).filter(isAlive)
  if (left.length === 0) return
  say(`waiting for an earlier run to end (${left.map(({ name }) => name).join(', ')})`)
  await untilGone(left, guardedPatienceMs, signal)
  for (const leftover of left.filter(isAlive)) signalGroup(leftover.pid, leftover.stopSignal)
  await untilGone(left, stopPatienceMs, signal)
  for (const leftover of left.filter(isAlive)) signalGroup(leftover.pid, 'SIGKILL')
  await untilGone(left, stopPatienceMs, signal)
}

function isAlive({ pid, start }: Leftover): boolean {
  return processStart(pid) === start
}

async function untilGone(left: readonly Leftover[], patienceMs: number, signal: AbortSignal): Promise<void> {
  for (let waitedMs = 0; waitedMs < patienceMs && left.some(isAlive); waitedMs += pollMs) {
    signal.throwIfAborted()
    await new Promise((resolve) => setTimeout(resolve, pollMs))
  }
}

async function readRecords(directory: string): Promise<Leftover[]> {
  const records: Leftover[] = []
  for (const name of await readdir(directory)) {
    const path = join(directory, name)
    // Gone since it was listed: a guardian is through with it.
    const record: unknown = parse(await readFile(path, 'utf8').catch(() => ''))
    if (isLeftover(record)) records.push(record)
    await rm(path, { force: true })
  }
  return records
}

/** A start that was killed while it wrote leaves half a record; its program is gone with its leash. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function isLeftover(record: unknown): record is Leftover {
  return typeof record === 'object' && record !== null && 'pid' in record && 'start' in record && 'stopSignal' in record
}
