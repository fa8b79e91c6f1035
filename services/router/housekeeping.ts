import type { Component } from '@tenterhook/lifecycle/component'
import { loop } from '@tenterhook/lifecycle/loop'
import { readClock } from '@tenterhook/store/clock'
import type { Store } from '@tenterhook/store/connect'
import { trimDedupe } from '@tenterhook/store/duplicates'
import { expireHeld } from '@tenterhook/store/feed'
import { dayMs, dayName, ensurePartitions } from '@tenterhook/store/partitions'
import { trimRejections } from '@tenterhook/store/rejections'
import {
  dropTakenOut,
  expireUnfinished,
  noteOverdue,
  storedDays,
  takeOutDay,
  type Unfinished,
} from '@tenterhook/store/retention'
import { trimConfigHistory, trimOld } from '@tenterhook/store/trim'
import type { Log } from '@tenterhook/telemetry/log'
import type { Metrics } from '@tenterhook/telemetry/metrics'

const everyMs = 60_000
const trimmedPerRound = 10_000
const expiredPerRound = 10_000
/** Rejections kept: the newest. */
const rejectionsMax = 100_000
/** From the alert that a day past the retention has unfinished rows, to their end: what an operator has to act in. */
const expiryGraceMs = dayMs
/** The log is their last trace: each line names this many. */
const idsPerLine = 100

interface Housekeeping {
  store: Store
  /** Days that ended longer ago than this are dropped. */
  retentionMs: number
  nowMs: () => number
  random: () => number
  log: Log
  metrics: Metrics
}

/** The loops that keep the tables in shape: days made ahead, days past the retention dropped, the rest trimmed. */
export function housekeeping({ store, retentionMs, nowMs, random, log, metrics }: Housekeeping): Component[] {
  return [
    loop({
      name: 'housekeeping',
      everyMs,
      random,
      log,
      work: async () => {
        const made = await ensurePartitions(store.durable, nowMs())
        if (made.length > 0) log.info({ event: 'partitions.made', partitions: made })
        return 'idle'
      },
    }),
    // Apart, so that one that fails holds up none of the others.
    loop({
      name: 'expiry behind a pause',
      everyMs,
      random,
      log,
      work: async () => ((await expireHeld(store.fast, expiredPerRound)) === expiredPerRound ? 'more' : 'idle'),
    }),
    loop({
      name: 'trimming',
      everyMs,
      random,
      log,
      work: async () => {
        await trimRejections(store.fast, rejectionsMax)
        const trimmed = await trimDedupe(store.fast, trimmedPerRound)
        return trimmed === trimmedPerRound ? 'more' : 'idle'
      },
    }),
    loop({
      name: 'retention',
      everyMs,
      random,
      log,
      work: (signal) => retain({ store, retentionMs, log, metrics }, signal),
    }),
  ]
}

async function retain(
  { store, retentionMs, log, metrics }: Pick<Housekeeping, 'store' | 'retentionMs' | 'log' | 'metrics'>,
  signal: AbortSignal,
): Promise<'more' | 'idle'> {
  // Postgres's own time: a wrong clock of this machine must drop nothing.
  const postgresMs = await readClock(store.fast)
  // What a copy that was killed had taken out.
  const dropped = await dropTakenOut(store.fast)
  const stored = await storedDays(store.fast, postgresMs)
  const past = stored.filter((day) => day + dayMs <= postgresMs - retentionMs)
  const out = new Set<number>()
  let more = false
  let unfinished = 0
  for (const day of past) {
    if (signal.aborted) break
    const taken = await takeOutDay(store.fast, day)
    switch (taken.kind) {
      case 'out':
        out.add(day)
        log.info({ event: 'retention.day_out', day: dayName(day) })
        break
      case 'more':
        more = true
        break
      case 'unfinished':
        unfinished += taken.unfinished.events + taken.unfinished.deliveries + taken.unfinished.replays
        if (await endOverdue(store, day, taken.unfinished, log)) more = true
        break
      case 'locked':
        log.warn(
          { event: 'retention.locked', day: dayName(day) },
          'its tables were in use all the time (a backup, perhaps); it is tried again',
        )
        break
    }
  }
  dropped.push(...(await dropTakenOut(store.fast)))
  if (dropped.length > 0) {
    log.info({ event: 'retention.dropped', partitions: dropped })
    await trimConfigHistory(store.fast, postgresMs - retentionMs, trimmedPerRound)
  }
  if ((await trimOld(store.fast, postgresMs - retentionMs - dayMs, trimmedPerRound)) === 'more') more = true

  metrics.unfinishedPastRetention.set(unfinished)
  const oldest = stored.find((day) => !out.has(day))
  metrics.oldestDayAge.set(oldest === undefined ? 0 : (postgresMs - oldest) / 1_000)
  return more ? 'more' : 'idle'
}

/** Alerts, once in all copies; ends what is still unfinished when the operator had time to act. Says whether anything ended. */
async function endOverdue(store: Store, day: number, unfinished: Unfinished, log: Log): Promise<boolean> {
  const { first, sinceMs } = await noteOverdue(store.fast, day)
  if (first)
    log.error(
      { event: 'retention.unfinished', day: dayName(day), ...unfinished, expiresInMs: expiryGraceMs },
      'a day past the retention has unfinished rows; those that are left when this time is over go dead as expired',
    )
  if (sinceMs < expiryGraceMs) return false
  const expired = await expireUnfinished(store.fast, day, expiredPerRound)
  for (const [kind, ids] of Object.entries(expired))
    for (let from = 0; from < ids.length; from += idsPerLine)
      log.error(
        { event: 'retention.expired', day: dayName(day), kind, ids: ids.slice(from, from + idsPerLine) },
        'unfinished past the retention: ended, and dropped with their day',
      )
  return expired.events.length + expired.deliveries.length > 0
}
