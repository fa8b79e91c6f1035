/** Ctrl-C reaches us from the terminal, from npm and from the bootstrap, at once; a person's second one comes later. */
const sameSignalMs = 1_000

/**
 * Aborted by the first SIGINT, SIGTERM or SIGHUP. A later one ends this process at once; the guardians clean up.
 */
export function stopSignal({ monotonicMs }: { monotonicMs: () => number }): AbortSignal {
  const stop = new AbortController()
  let firstMs: number | undefined
  const onSignal = (_name: NodeJS.Signals, number: number) => {
    firstMs ??= monotonicMs()
    if (monotonicMs() - firstMs > sameSignalMs) process.exit(128 + number)
    stop.abort()
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal)
  return stop.signal
}
