/**
 * At most one line per window for a fault that repeats thousands of times a second while Redis or
 * Postgres is away. The first is written at once; the window's end tells how many were left out.
 */
export function throttle<T>(params: { windowMs: number; write: (last: T, suppressed: number) => void }): (fact: T) => void {
  let open = false
  let suppressed = 0
  let last: T | undefined
  return (fact) => {
    if (open) {
      suppressed += 1
      last = fact
      return
    }
    open = true
    params.write(fact, 0)
    setTimeout(() => {
      open = false
      if (suppressed > 0 && last !== undefined) params.write(last, suppressed)
      suppressed = 0
      last = undefined
    }, params.windowMs).unref()
  }
}
