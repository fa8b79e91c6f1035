import type { Log } from '@tenterhook/telemetry/log'
import type { Component } from './component.ts'

/**
 * Ends a process that has work to do and does none, so that a service manager starts it anew.
 *
 * W1. Work is what Postgres says is overdue. What can't be asked is not known, and nobody exits for it: a database that is
 *     away, or full, must not make services restart for as long as it lasts.
 * W2. Only this process's own progress counts: another copy's, of which there is plenty, says nothing about this one.
 * W3. What is under way is progress to come, until its time is over. What is begun meanwhile prolongs nothing: a process
 *     that only begins, and ends nothing, stands still.
 * W4. Time in which this process itself stood still (stopped, the machine asleep) is not counted: it could do nothing.
 * W5. Probes of the ops port ask nothing of this: `/livez` is the event loop's alone.
 */
export type Watchdog = Component & {
  /** This process has just `recorded`, `routed` … */
  progressed(what: string): void
  /** It has begun what may take so long. */
  began(key: string, forMs: number): void
  ended(key: string): void
}

/** Work that waits: `delivery dlv_…`, and how long it is overdue. */
export type DueWork = Readonly<{ what: string; overdueMs: number }>

export type WatchdogLimits = Readonly<{
  /** With due work and no progress for this long the process exits. */
  stalledMsMax: number
  /** Work that is overdue by less is on its way, here or in another copy. */
  overdueMsMin: number
  checkEveryMs: number
}>

export const watchdogLimits: WatchdogLimits = { stalledMsMax: 30_000, overdueMsMin: 5_000, checkEveryMs: 5_000 }

/** A restart may help (EX_TEMPFAIL of sysexits.h). */
export const stalledExitCode = 75

export function createWatchdog({
  name,
  readDue,
  takesWrites,
  monotonicMs,
  log,
  limits = watchdogLimits,
  exit = (code) => process.exit(code),
}: {
  /** Of the service. */
  name: string
  /** The most overdue work, if any is overdue by so much. Rejects when Postgres can't be asked. */
  readDue: (overdueMsMin: number) => Promise<DueWork | undefined>
  /** Whether Postgres would take what this process has to write. Asked only before an exit. */
  takesWrites: () => Promise<boolean>
  monotonicMs: () => number
  log: Log
  limits?: WatchdogLimits
  exit?: (code: number) => void
}): Watchdog {
  let stopped = false
  let timer: NodeJS.Timeout | undefined
  /** What is under way, and until when it may be. */
  const underWay = new Map<string, number>()
  /** When the last of what was under way at the last progress should have ended; of what began first, if nothing was. */
  let busyUntilMs = -Infinity
  let last: { what: string; atMs: number } | undefined
  let isNew = false
  let stalledMs = 0
  let checkedMs = monotonicMs()

  function isBusy(nowMs: number): boolean {
    for (const [key, untilMs] of underWay) if (untilMs <= nowMs) underWay.delete(key)
    return underWay.size > 0 && nowMs < busyUntilMs
  }

  async function check(): Promise<void> {
    const nowMs = monotonicMs()
    const watchedMs = Math.min(nowMs - checkedMs, 2 * limits.checkEveryMs)
    checkedMs = nowMs
    // Who gets on need not ask: under load this costs nothing.
    const due = isNew || isBusy(nowMs) ? undefined : await readDue(limits.overdueMsMin).catch(() => undefined)
    if (!due || isNew) {
      stalledMs = 0
      isNew = false
      return
    }
    stalledMs += watchedMs
    if (stalledMs < limits.stalledMsMax) return
    const takes = await takesWrites()
    if (!takes || isNew || stopped) {
      stalledMs = 0
      return
    }
    log.fatal(
      {
        event: 'service.stalled',
        due: due.what,
        overdueMs: Math.round(due.overdueMs),
        stalledMs: Math.round(stalledMs),
        lastProgress: last?.what ?? 'none',
        ...(last && { lastProgressAgoMs: Math.round(nowMs - last.atMs) }),
      },
      `${name} has due work and does none of it: exiting, to be started anew`,
    )
    exit(stalledExitCode)
  }

  function checkLater(): void {
    timer = setTimeout(() => {
      void check().finally(() => {
        if (!stopped) checkLater()
      })
    }, limits.checkEveryMs)
  }

  return {
    name: 'watchdog',
    progressed(what) {
      last = { what, atMs: monotonicMs() }
      isNew = true
      busyUntilMs = Math.max(-Infinity, ...underWay.values())
    },
    began(key, forMs) {
      const untilMs = monotonicMs() + forMs
      if (underWay.size === 0) busyUntilMs = untilMs
      underWay.set(key, untilMs)
    },
    ended: (key) => void underWay.delete(key),
    async start() {
      checkedMs = monotonicMs()
      checkLater()
    },
    // Without the look under way, which a slow Postgres may hold up: it decides nothing any more.
    async stop() {
      stopped = true
      clearTimeout(timer)
    },
  }
}
