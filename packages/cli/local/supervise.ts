import type { Exit, Guarded } from './guardian.ts'

/**
 * Keeps one program running: when it dies it is started again after a pause that doubles with each death, up to a
 * maximum, and falls back to the first once it has lived for a while.
 */
export type Supervised = {
  readonly name: string
  /** The process of this moment, which may be one that has just died. */
  readonly current: () => Guarded
  /** Stops it for good. Calls after the first share its promise. */
  readonly stop: () => Promise<void>
}

export type Death = {
  readonly name: string
  /** Completes "<name> …": `ended with code 1`. */
  readonly how: string
  readonly deathsInARow: number
  readonly pauseMs: number
}

const firstPauseMs = 250
const pauseMsMax = 30_000
/** A life this long is no failed start: the next death begins again with the first pause. */
const stableLifeMs = 60_000

export function supervise({
  name,
  first,
  start,
  onDeath,
  monotonicMs,
}: {
  name: string
  /** Already running; adopted. */
  first?: Guarded
  start: () => Guarded
  /** Before each pause. */
  onDeath: (death: Death) => void
  monotonicMs: () => number
}): Supervised {
  let current = first ?? start()
  let bornMs = monotonicMs()
  let deathsInARow = 0
  let timer: NodeJS.Timeout | undefined
  let stopping: Promise<void> | undefined

  function watch(): void {
    void current.exited.then((exit) => die(describeExit(exit)))
  }

  function die(how: string): void {
    if (stopping !== undefined) return
    deathsInARow = monotonicMs() - bornMs >= stableLifeMs ? 1 : deathsInARow + 1
    const pauseMs = Math.min(firstPauseMs * 2 ** (deathsInARow - 1), pauseMsMax)
    timer = setTimeout(restart, pauseMs)
    onDeath({ name, how, deathsInARow, pauseMs })
  }

  function restart(): void {
    bornMs = monotonicMs()
    try {
      current = start()
    } catch (error) {
      // A full disk or a lack of processes passes; one program's bad moment must not end the others.
      die(`could not be started: ${error instanceof Error ? error.message : String(error)}`)
      return
    }
    watch()
  }

  async function stop(): Promise<void> {
    clearTimeout(timer)
    await current.stop()
  }

  watch()
  return { name, current: () => current, stop: () => (stopping ??= stop()) }
}

function describeExit({ code, signal }: Exit): string {
  return signal === null ? `ended with code ${code}` : `was ended by ${signal}`
}
