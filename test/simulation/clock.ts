import type { Process } from './process.ts'

/**
 * One clock for all: Postgres's and every process's monotonic one. Steps take no time; time passes only from alarm to
 * alarm (the wake-up times of rows, the next turns of loops), when the scheduler says so.
 *
 * A healthy process does in time what it promised (an attempt within its lease), so time can't pass a deadline of a
 * process that isn't paused: passing one is a fault, and is injected as one.
 */
export interface Deadline {
  readonly process: Process
  readonly atMs: number
}

export interface Clock {
  nowMs: number
  alarm(atMs: number): void
  promise(process: Process, atMs: number): Deadline
  keep(deadline: Deadline): void
  /** A killed process promises nothing. */
  forget(process: Process): void
  /** Moves on by as much, or as far as may be. */
  pass(ms: number): void
  /** Moves to one of the alarms ahead (0 is the next); false when there is none that may be passed to. */
  advance(pick: number): boolean
}

export function createClock(): Clock {
  let alarms: number[] = []
  let deadlines: Deadline[] = []
  const latest = () =>
    deadlines.reduce((least, { process, atMs }) => (process.paused ? least : Math.min(least, atMs)), Infinity)
  const clock: Clock = {
    nowMs: 0,
    alarm(atMs) {
      if (atMs > clock.nowMs && atMs !== Infinity && !alarms.includes(atMs)) alarms.push(atMs)
    },
    promise(process, atMs) {
      const deadline = { process, atMs }
      deadlines.push(deadline)
      return deadline
    },
    keep(deadline) {
      deadlines = deadlines.filter((other) => other !== deadline)
    },
    forget(process) {
      deadlines = deadlines.filter((deadline) => deadline.process !== process)
    },
    pass(ms) {
      clock.nowMs = Math.max(clock.nowMs, Math.min(clock.nowMs + ms, latest()))
    },
    advance(pick) {
      const latestMs = latest()
      const ahead = alarms.filter((atMs) => atMs > clock.nowMs && atMs <= latestMs).sort((a, b) => a - b)
      const atMs = ahead[pick % ahead.length]
      if (atMs === undefined) return false
      clock.nowMs = atMs
      alarms = alarms.filter((other) => other > atMs)
      return true
    },
  }
  return clock
}
