import { soleHeader } from '@tenterhook/schemas/headers'
import type { DeadReason } from '@tenterhook/schemas/states'
import type { AttemptOutcome } from './outcome.ts'
import { parseRetryAfter } from './retry-after.ts'

export type Decision =
  | { kind: 'done' }
  /** `slowDestinationMs`: nothing more goes to the destination for that long. */
  | { kind: 'retry'; delayMs: number; slowDestinationMs?: number }
  | {
      kind: 'dead'
      reason: Extract<DeadReason, 'retries_used_up' | 'gone' | 'cannot_succeed'>
      pauseDestination?: true
    }

export type DecideOptions = {
  /** Recorded failures of this delivery before this one. */
  failures: number
  /** The waits before each retry, in milliseconds: their number is the number of retries. */
  schedule: readonly number[]
  /** Each wait is spread evenly by ± this fraction. */
  jitter: number
  /** The URL is the sender's in part, so 410 speaks of that URL, not of the destination. */
  forwardPath: boolean
  /** Unix milliseconds, for a Retry-After that is a date. */
  nowMs: number
  /** From 0 up to 1. */
  random: () => number
}

/** "Retry-After: 0" is no leave to use up a schedule within one second. */
const retryAfterMinMs = 1_000
/** 429 or 503 without a time: long enough to be felt as relief, short enough to notice that it is over. */
const slowDownMs = 5_000

/**
 * What follows from an attempt. Every failure is tried again by the schedule, with three exceptions: 410; a request that
 * can't be sent as it is; and Retry-After, which takes the place of the wait but uses up a retry like any failure.
 *
 * A refused address is tried again as well: names move and operators open CIDRs, and a delivery that still waits then
 * needs no hand laid on it, where a dead one would.
 */
export function decide(
  outcome: AttemptOutcome,
  { failures, schedule, jitter, forwardPath, nowMs, random }: DecideOptions,
): Decision {
  if (outcome.kind === 'delivered') return { kind: 'done' }
  if (outcome.kind === 'blocked' && !outcome.code.startsWith('address_'))
    return { kind: 'dead', reason: 'cannot_succeed' }
  if (outcome.kind === 'rejected' && outcome.status === 410) {
    return forwardPath ? { kind: 'dead', reason: 'gone' } : { kind: 'dead', reason: 'gone', pauseDestination: true }
  }

  const stepMs = schedule[failures]
  if (stepMs === undefined) return { kind: 'dead', reason: 'retries_used_up' }
  const delayMs = Math.round(stepMs * (1 + jitter * (2 * random() - 1)))
  if (outcome.kind !== 'rejected') return { kind: 'retry', delayMs }

  const asked = soleHeader(outcome.headers, 'retry-after')
  const askedMs = asked === undefined ? undefined : parseRetryAfter(asked, nowMs)
  if (askedMs !== undefined) {
    const waitMs = Math.max(askedMs, retryAfterMinMs)
    return { kind: 'retry', delayMs: waitMs, slowDestinationMs: waitMs }
  }
  return outcome.status === 429 || outcome.status === 503
    ? { kind: 'retry', delayMs, slowDestinationMs: slowDownMs }
    : { kind: 'retry', delayMs }
}
