/**
 * At most one line per window for a fault that repeats thousands of times a second while Redis or
 * Postgres is away. The first is written at once; at the window's end, the last with how many it stands for.
 */
export function throttle<T>(params: {
  windowMs: number
  write: (fact: T, suppressed: number) => void
}): (fact: T) => void {
  let window: { suppressed: number; last: T } | undefined
  return (fact) => {
    if (window !== undefined) {
      window.suppressed += 1
      window.last = fact
      return
    }
    const opened = { suppressed: 0, last: fact }
    window = opened
    params.write(fact, 0)
    setTimeout(() => {
      window = undefined
      if (opened.suppressed > 0) params.write(opened.last, opened.suppressed - 1)
    }, params.windowMs).unref()
  }
}
