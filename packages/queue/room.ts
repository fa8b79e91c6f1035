/**
 * Room in the queues of the whole system: deliveries that may still be admitted before Redis holds as many as it
 * should. Owns the last count from Postgres and what was admitted since, so that whatever a crash of ours or of Redis
 * leaves behind is mended by the next count. Copies count apart: together they may overrun the bound by what they admit
 * within one interval.
 */
export type Room = Readonly<{
  /** For admitting: waits for the first count, and for the next one when the last left no room. */
  free(): Promise<number>
  /** By the last count, at once; sees to a new one when that is old. All of it before the first. */
  known(): number
  took(deliveries: number): void
}>

/** A few hundred bytes of Redis each: well under 100 MB, and many seconds of full load. */
export const admittedMax = 50_000
const countEveryMs = 1_000

export function createRoom(params: { count: () => Promise<number>; onFailed: (error: unknown) => void }): Room {
  /** Undefined before the first count. */
  let left: number | undefined
  let tookMeanwhile = 0
  let counting: Promise<void> | undefined
  /** While the last count is recent. */
  let recent: Promise<void> | undefined

  async function count(): Promise<void> {
    tookMeanwhile = 0
    try {
      const admitted = await params.count()
      // What was admitted meanwhile may be in the count or not: taken off, to be safe.
      left = admittedMax - admitted - tookMeanwhile
    } catch (error) {
      // What is known stays known: a Postgres that can't count won't admit either.
      params.onFailed(error)
    }
    recent = new Promise((resolve) => {
      setTimeout(() => {
        recent = undefined
        resolve()
      }, countEveryMs).unref()
    })
  }

  function countIfOld(): void {
    if (recent !== undefined) return
    counting ??= count().finally(() => {
      counting = undefined
    })
  }

  return {
    async free() {
      countIfOld()
      if (left === undefined || left <= 0) {
        await recent
        countIfOld()
        await counting
      }
      return left ?? 0
    },
    known() {
      countIfOld()
      return left ?? admittedMax
    },
    took(deliveries) {
      tookMeanwhile += deliveries
      if (left !== undefined) left -= deliveries
    },
  }
}
