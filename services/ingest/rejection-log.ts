import { newId } from '@tenterhook/schemas/ids'
import type { NewRejection } from '@tenterhook/store/rejections'

/**
 * Owns the rejections on their way to Postgres, best effort. A flood of bad requests must neither fill the disk nor
 * slow the good ones: of each source and code a few rows a second are kept, the rest is counted on the next of them.
 */
export interface RejectionLog {
  record(rejection: Omit<NewRejection, 'id' | 'atMs' | 'folded'>): void
  stop(): Promise<void>
}

const rowsPerSecondPerKind = 5
const rowsPerSecond = 50
const kindsMax = 1_000
const flushEveryMs = 1_000

export function createRejectionLog(params: {
  write: (rejections: readonly NewRejection[]) => Promise<void>
  onWriteFailed: (error: unknown) => void
  nowMs: () => number
}): RejectionLog {
  let rows: NewRejection[] = []
  let kept = new Map<string, { rows: number; folded: number; last: NewRejection }>()
  let writing: Promise<void> = Promise.resolve()

  function flush(): Promise<void> {
    if (rows.length === 0) return writing
    const batch = rows
    for (const { folded, last } of kept.values()) last.folded += folded
    rows = []
    kept = new Map()
    writing = writing.then(() => params.write(batch)).catch(params.onWriteFailed)
    return writing
  }
  const timer = setInterval(flush, flushEveryMs)
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
      if (!seen && (kept.size >= kindsMax || rows.length >= rowsPerSecond)) return
      const atMs = params.nowMs()
      const row = { ...rejection, id: newId('rej', atMs), atMs, folded: 0 }
      rows.push(row)
      kept.set(kind, { rows: (seen?.rows ?? 0) + 1, folded: seen?.folded ?? 0, last: row })
    },
    async stop() {
      clearInterval(timer)
      await flush()
    },
  }
}
