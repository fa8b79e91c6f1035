import { defaultSchedule } from '@tenterhook/schemas/connection'
import { durationMs } from '@tenterhook/schemas/duration'
import type { HeaderPairs } from '@tenterhook/schemas/headers'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { AttemptOutcome, RefusedCode, UnreachableCode } from './outcome.ts'
import { decide } from './schedule.ts'
import type { DecideOptions } from './schedule.ts'

const timings = { totalMs: 1 }
const nowMs = Date.UTC(2026, 0, 1)
const schedule = defaultSchedule.map(durationMs)

function answered(status: number, headers: HeaderPairs = []): AttemptOutcome {
  const kind = status >= 200 && status < 300 ? 'delivered' : 'rejected'
  return { kind, status, headers, body: Buffer.alloc(0), truncated: false, address: '192.0.2.1', timings }
}
const unreachable = (code: UnreachableCode): AttemptOutcome => ({ kind: 'unreachable', code, detail: '', timings })
const blocked = (code: RefusedCode): AttemptOutcome => ({ kind: 'blocked', code, detail: '', timings })

function decideOn(outcome: AttemptOutcome, options: Partial<DecideOptions> = {}) {
  return decide(outcome, {
    failures: 0,
    schedule,
    jitter: 0.2,
    forwardPath: false,
    nowMs,
    random: () => 0.5,
    ...options,
  })
}

test.each([200, 201, 202, 204, 299])('%i is done', (status) => {
  expect(decideOn(answered(status))).toEqual({ kind: 'done' })
  expect(decideOn(answered(status, [['retry-after', '60']]))).toEqual({ kind: 'done' })
})

test.each([300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 408, 409, 413, 422, 451, 500, 501, 502, 504, 599])(
  '%i is tried again by the schedule, at full pace',
  (status) => {
    expect(decideOn(answered(status))).toEqual({ kind: 'retry', delayMs: 5_000 })
  },
)

test('the default schedule waits 5 s to 24 h, about three days in all, then the retries are used up', () => {
  const waits = schedule.map((_, failures) => decideOn(answered(500), { failures }))
  expect(waits).toEqual(
    [5_000, 30_000, 120_000, 900_000, 3_600_000, 10_800_000, 21_600_000, 43_200_000, 86_400_000, 86_400_000].map(
      (delayMs) => ({ kind: 'retry', delayMs }),
    ),
  )
  expect(decideOn(answered(500), { failures: 10 })).toEqual({ kind: 'dead', reason: 'retries_used_up' })
  expect(decideOn(answered(500), { failures: 11 })).toEqual({ kind: 'dead', reason: 'retries_used_up' })
})

test('an empty schedule means one attempt', () => {
  expect(decideOn(unreachable('timeout'), { schedule: [] })).toEqual({ kind: 'dead', reason: 'retries_used_up' })
})

test('every wait stays within ± the jitter of its step, and spreads over all of it', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 100, max: 604_800_000 }), { minLength: 1, maxLength: 50 }),
      fc.double({ min: 0, max: 0.5, noNaN: true }),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      fc.nat(60),
      (steps, jitter, roll, failures) => {
        const decision = decideOn(unreachable('reset'), { schedule: steps, jitter, failures, random: () => roll })
        const step = steps[failures]
        if (step === undefined) {
          expect(decision).toEqual({ kind: 'dead', reason: 'retries_used_up' })
          return
        }
        const delayMs = decision.kind === 'retry' ? decision.delayMs : Number.NaN
        expect(delayMs).toBeGreaterThanOrEqual(Math.floor(step * (1 - jitter)))
        expect(delayMs).toBeLessThanOrEqual(Math.ceil(step * (1 + jitter)))
        expect(delayMs).toBe(Math.round(delayMs))
      },
    ),
  )
  expect(decideOn(unreachable('reset'), { random: () => 0 })).toMatchObject({ delayMs: 4_000 })
  expect(decideOn(unreachable('reset'), { random: () => 0.999_999 })).toMatchObject({ delayMs: 6_000 })
})

describe('410', () => {
  test('pauses the destination and schedules no retry', () => {
    expect(decideOn(answered(410))).toEqual({ kind: 'dead', reason: 'gone', pauseDestination: true })
    expect(decideOn(answered(410, [['retry-after', '60']]))).toEqual({
      kind: 'dead',
      reason: 'gone',
      pauseDestination: true,
    })
  })

  test('with path forwarding kills that delivery only', () => {
    expect(decideOn(answered(410), { forwardPath: true })).toEqual({ kind: 'dead', reason: 'gone' })
  })
})

describe('Retry-After', () => {
  test.each([429, 503, 500, 404, 302])('on %i takes the place of the wait and slows the destination', (status) => {
    expect(decideOn(answered(status, [['Retry-After', '120']]), { failures: 3 })).toEqual({
      kind: 'retry',
      delayMs: 120_000,
      slowDestinationMs: 120_000,
    })
  })

  test('as a date is counted from now', () => {
    expect(decideOn(answered(503, [['retry-after', 'Thu, 01 Jan 2026 00:10:00 GMT']]))).toEqual({
      kind: 'retry',
      delayMs: 600_000,
      slowDestinationMs: 600_000,
    })
  })

  test('is at most a day and at least a second', () => {
    expect(decideOn(answered(429, [['retry-after', '999999999']]))).toEqual({
      kind: 'retry',
      delayMs: 86_400_000,
      slowDestinationMs: 86_400_000,
    })
    expect(decideOn(answered(429, [['retry-after', '0']]))).toEqual({
      kind: 'retry',
      delayMs: 1_000,
      slowDestinationMs: 1_000,
    })
    expect(decideOn(answered(429, [['retry-after', 'Thu, 01 Jan 2015 00:00:00 GMT']]))).toEqual({
      kind: 'retry',
      delayMs: 1_000,
      slowDestinationMs: 1_000,
    })
  })

  test('uses up a retry like any failure', () => {
    expect(decideOn(answered(429, [['retry-after', '120']]), { failures: 10 })).toEqual({
      kind: 'dead',
      reason: 'retries_used_up',
    })
  })

  test.each([429, 503])(
    'on %i absent, malformed or said twice leaves the schedule, and slows the destination a little',
    (status) => {
      const bySchedule = { kind: 'retry', delayMs: 5_000, slowDestinationMs: 5_000 }
      expect(decideOn(answered(status))).toEqual(bySchedule)
      expect(decideOn(answered(status, [['retry-after', 'soon']]))).toEqual(bySchedule)
      expect(
        decideOn(
          answered(status, [
            ['retry-after', '1'],
            ['Retry-After', '2'],
          ]),
        ),
      ).toEqual(bySchedule)
      expect(decideOn(answered(status), { failures: 9 })).toEqual({
        kind: 'retry',
        delayMs: 86_400_000,
        slowDestinationMs: 5_000,
      })
    },
  )
})

test.each([
  'dns_failed',
  'dns_timeout',
  'connect_refused',
  'connect_timeout',
  'tls_failed',
  'reset',
  'timeout',
  'protocol_error',
  'aborted',
] as const)('unreachable (%s) is tried again by the schedule', (code) =>
  expect(decideOn(unreachable(code), { failures: 1 })).toEqual({ kind: 'retry', delayMs: 30_000 }),
)

test.each(['address_private', 'address_loopback', 'address_nat64'] as const)(
  'a refused address (%s) is tried again by the schedule',
  (code) => {
    expect(decideOn(blocked(code))).toEqual({ kind: 'retry', delayMs: 5_000 })
    expect(decideOn(blocked(code), { failures: 10 })).toEqual({ kind: 'dead', reason: 'retries_used_up' })
  },
)

test.each([
  'url_invalid',
  'scheme_refused',
  'userinfo_refused',
  'zone_id_refused',
  'trailing_dot_refused',
  'path_refused',
  'request_invalid',
] as const)('a request that can never be sent (%s) is dead at once', (code) =>
  expect(decideOn(blocked(code))).toEqual({ kind: 'dead', reason: 'cannot_succeed' }),
)
