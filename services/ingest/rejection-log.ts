import { newId } from '@tenterhook/schemas/ids'
import type { NewRejection } from '@tenterhook/store/rejections'

/**
 * Owns the rejections on their way to Postgres, best effort. A flood of bad requests must neither fill the disk nor
 * slow the good ones, nor fill the memory while Postgres hangs: of each source and code a few rows a second are kept, the
 * rest is counted on the next of them; one write at a time; what waits for it is bounded, and beyond that counted as lost.
 */
export interface RejectionLog {
  record(rejection: Omit<NewRejection, 'id' | 'atMs' | 'folded'>): void
  stop(): Promise<void>
}

const rowsPerSecondPerKind = 5
const rowsPerSecond = 50
const kindsMax = 1_000
const rollEveryMs = 1_000
/** Ten seconds' worth: longer than a Postgres that restarts stays away. */
export const rowsHeldMax = 500

export function createRejectionLog(params: {
  write: (rejections: readonly NewRejection[]) => Promise<void>
  /** Rejections that were not kept, since the start; with the error of the write that failed, if it was one. */
  onLost: (lost: number, error: unknown) => void
  nowMs: () => number
}): RejectionLog {
  /** Of this second. */
  let rows: NewRejection[] = []
  let kept = new Map<string, { rows: number; folded: number; last: NewRejection }>()
  /** Of the seconds before, not written yet. */
  let held: NewRejection[] = []
  let writing: Promise<void> | undefined
  let lost = 0
  let lostSaid = 0

  function roll(): void {
    for (const { folded, last } of kept.values()) last.folded += folded
    const room = rowsHeldMax - held.length
    held.push(...rows.slice(0, room))
    lost += countOf(rows.slice(room))
    rows = []
    kept = new Map()
    if (held.length > 0) writing ??= writeHeld()
  }

  async function writeHeld(): Promise<void> {
    const batch = held
    held = []
    let failure: unknown
    try {
      await params.write(batch)
    } catch (error) {
      failure = error
      lost += countOf(batch)
    }
    writing = undefined
    if (lost > lostSaid) params.onLost(lost, failure)
    lostSaid = lost
  }

  const timer = setInterval(roll, rollEveryMs)
  timer.unref()

  return {
    record(rejection) {
      // Unknown sources share a kind: their names are the sender's to choose.
      const kind = `${rejection.sourceId ?? ''} ${rejection.code}`
      const seen = kept.get(kind)
      if (seen && (seen.rows >= rowsPerSecondPerKind || rows.length >= rowsPerSecond)) {
        seen.folded += 1
        return
      }
      if (!seen && (kept.size >= kindsMax || rows.length >= rowsPerSecond)) {
        lost += 1
        return
      }
      const atMs = params.nowMs()
      const row = { ...rejection, id: newId('rej', atMs), atMs, folded: 0 }
      rows.push(row)
      kept.set(kind, { rows: (seen?.rows ?? 0) + 1, folded: seen?.folded ?? 0, last: row })
    },
    async stop() {
      clearInterval(timer)
      await writing
      roll()
      await writing
    },
  }
}

/** The requests that these rows stand for. */
function countOf(rows: readonly NewRejection[]): number {
  return rows.reduce((count, row) => count + 1 + row.folded, 0)
}
