import { setTimeout as delay } from 'node:timers/promises'
import type { Component } from '@tenterhook/lifecycle/component'
import { loop } from '@tenterhook/lifecycle/loop'
import type { DestinationId } from '@tenterhook/schemas/ids'
import { lanes, type Lane } from '@tenterhook/schemas/states'
import type { Store } from '@tenterhook/store/connect'
import { dueDestinations, handBack } from '@tenterhook/store/feed'
import { setPace } from '@tenterhook/store/pace'
import { dueQueued, oldestDueAge, oldestSnapshotAge, sweepLeases } from '@tenterhook/store/sweep'
import type { Log } from '@tenterhook/telemetry/log'
import type { Metrics } from '@tenterhook/telemetry/metrics'
import type { Health } from './health.ts'
import type { Hint, Slots } from './slots.ts'

const sweepEveryMs = 1_000
/** While more is due than sockets are free, rounds follow each other this closely: without Redis they are all that delivers. */
const behindEveryMs = 25
/** Retries wait in Postgres until their time: this is how late they may be. */
const feedEveryMs = 500
const paceEveryMs = 1_000
const measureEveryMs = 5_000
const leasesPerSweep = 500
const destinationsPerSweep = 1_000
/** With as many waiting for their turn, the sweep has nothing to add. */
const feederHeldMax = 10_000
const queuedPerSweep = 500
/** Rows that are due and parked here already come back with each sweep, in front of the new ones. */
const queuedReadMax = 5_000
const pacesPerWrite = 200
/** What has been parked for so long is not wanted soon, or by another copy; in any case before its wait for a job is over. */
const parkedMax = { stuckMs: 5_000, anyMs: 8_000 }
const handBackRowsMax = 500

/**
 * The loops that make delivering independent of Redis: they find what is due by its row alone. Overdue queued deliveries
 * are leased in place (T7), at most as many as sockets are free, past the same shares as those that a job brings.
 */
export function dispatcherSweeps({
  store,
  slots,
  health,
  feeder,
  destinationName,
  random,
  log,
  metrics,
}: {
  store: Store
  slots: Slots
  health: Health
  feeder: { request(destinations: readonly { id: DestinationId; tenant: string }[]): void; held(): number }
  /** For people; destinations that end deliveries by themselves are rare. */
  destinationName: (id: DestinationId) => Promise<string>
  random: () => number
  log: Log
  metrics: Metrics
}): Component[] {
  let fedTo: DestinationId | null = null

  function queuedSweep(lane: Lane): Component {
    let behind = false
    return loop({
      name: `queued sweep, ${lane}`,
      everyMs: sweepEveryMs,
      random,
      log,
      work: async (signal) => {
        if (behind) await delay(behindEveryMs, undefined, { signal }).catch(() => {})
        if (signal.aborted) return 'idle'
        // One at least, which waits its turn for a socket: a consumer with a backlog refills every free one.
        const room = Math.max(1, Math.min(queuedPerSweep, slots.free(lane)))
        const rows = await dueQueued(store.fast, lane, Math.min(queuedReadMax, room + slots.waiting(lane)))
        const due: Hint[] = []
        for (const row of rows) {
          const hint = { ...row, lane }
          if (due.length < room && !slots.waits(hint)) due.push(hint)
        }
        behind = due.length === room
        // What is parked is due again and again: it goes when its destination has a socket, not when it is asked for.
        if (due.length === 0) return 'idle'
        metrics.sweptRows.inc({ kind: 'queued' }, due.length)
        // Waits for the leases, which take these rows out of the next sweep, and not for the attempts.
        const stopped = Promise.withResolvers<void>()
        const stop = () => stopped.resolve()
        signal.addEventListener('abort', stop, { once: true })
        await Promise.race([Promise.all(due.map(slots.offer)), stopped.promise])
        // Without Redis this loop goes round for hours.
        signal.removeEventListener('abort', stop)
        return 'more'
      },
    })
  }

  return [
    loop({
      name: 'lease sweep',
      everyMs: sweepEveryMs,
      random,
      log,
      work: async () => {
        const ended = await sweepLeases(store.fast, leasesPerSweep)
        if (ended.length === 0) return 'idle'
        metrics.sweptRows.inc({ kind: 'lease' }, ended.length)
        feeder.request([...new Set(ended.map((one) => one.destinationId))].map((id) => ({ id, tenant: unknownTenant })))
        for (const one of ended) {
          if (one.state !== 'dead') continue
          const destination = await destinationName(one.destinationId)
          metrics.deadLetters.inc({ destination, reason: 'leases_lost' })
          log.error(
            { event: 'delivery.dead', id: one.id, destination, reason: 'leases_lost' },
            'a delivery ended because its leases kept being lost',
          )
        }
        return ended.length === leasesPerSweep ? 'more' : 'idle'
      },
    }),
    ...lanes.map(queuedSweep),
    loop({
      name: 'feed sweep',
      everyMs: feedEveryMs,
      random,
      log,
      work: async () => {
        if (feeder.held() > feederHeldMax) return 'idle'
        const { due, walkedTo } = await dueDestinations(store.fast, fedTo, destinationsPerSweep)
        feeder.request(due)
        // From where it stopped, or the destinations behind the first thousand would never be found.
        fedTo = walkedTo
        return 'idle'
      },
    }),
    loop({
      name: 'pace',
      everyMs: paceEveryMs,
      random,
      log,
      work: async () => {
        const paces = health.due(pacesPerWrite)
        if (paces.length > 0) {
          await setPace(store.fast, paces)
          health.wrote(paces)
        }
        // After the paces: a destination that hangs is fed again at once, and by then its window must be small.
        await handBackAll(store, slots.takeParked(parkedMax))
        return paces.length === pacesPerWrite ? 'more' : 'idle'
      },
    }),
    loop({
      name: 'measuring',
      everyMs: measureEveryMs,
      random,
      log,
      work: async () => {
        metrics.oldestDueAge.set((await oldestDueAge(store.guarded)) / 1_000)
        metrics.oldestSnapshotAge.set((await oldestSnapshotAge(store.guarded)) / 1_000)
        return 'idle'
      },
    }),
  ]
}

/** Keeps their place in line. What this fails to hand back is leased by a sweep once its wait for a job is over. */
export async function handBackAll(store: Store, hints: readonly Hint[]): Promise<void> {
  for (let from = 0; from < hints.length; from += handBackRowsMax)
    await handBack(store.fast, hints.slice(from, from + handBackRowsMax))
}

/** Of a destination that only its lease was known of: a feeder that knows it keeps it where it is. */
const unknownTenant = ''
