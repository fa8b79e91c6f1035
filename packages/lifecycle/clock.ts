import { performance } from 'node:perf_hooks'

export type Clock = {
  /** Milliseconds since 1970 by Postgres's clock, as far as its offset is known. For ids, tolerances and signatures. */
  nowMs(): number
  /** Milliseconds that never jump or run backwards. For deadlines and durations. */
  monotonicMs(): number
}

/** The clock of a service, which learns its offset to Postgres (DESIGN §3.11). */
export type CorrectedClock = Clock & {
  /** Postgres's time less this machine's, in milliseconds. */
  setOffset(offsetMs: number): void
  offsetMs(): number
}

/** This machine's clock; the offset is 0 until it is set. */
export function systemClock(): CorrectedClock {
  let offset = 0
  return {
    nowMs: () => Math.round(Date.now() + offset),
    monotonicMs: () => performance.now(),
    setOffset: (offsetMs) => {
      offset = offsetMs
    },
    offsetMs: () => offset,
  }
}
