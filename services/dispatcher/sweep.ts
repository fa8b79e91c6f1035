import { setTimeout as delay } from 'node:timers/promises'
import type { Component } from '@tenterhook/lifecycle/component'
import { loop } from '@tenterhook/lifecycle/loop'
import type { DeliveryId, DestinationId } from '@tenterhook/schemas/ids'
import type { Store } from '@tenterhook/store/connect'
import { dueDestinations } from '@tenterhook/store/feed'
import { dueQueued, oldestDueAge, oldestSnapshotAge, sweepLeases } from '@tenterhook/store/sweep'
import type { Log } from '@tenterhook/telemetry/log'
import type { Metrics } from '@tenterhook/telemetry/metrics'
import type { Slots } from './slots.ts'

const sweepEveryMs = 1_000
/** While more is due than sockets are free, rounds follow each other this closely: without Redis they are all that delivers. */
const behindEveryMs = 25
/** Retries wait in Postgres until their time: this is how late they may be. */
const feedEveryMs = 500
const measureEveryMs = 5_000
const leasesPerSweep = 500
const destinationsPerSweep = 1_000
const queuedPerSweep = 500

/**
 * The loops that make delivering independent of Redis: they find what is due by its row alone. Overdue queued deliveries
 * are leased in place (T7), at most as many as sockets are free.
 */
export function dispatcherSweeps({
  store,
  slots,
  takeLease,
  feed,
  random,
  log,
  metrics,
}: {
  store: Store
  slots: Slots
  takeLease: (id: DeliveryId, generation: number) => Promise<(() => Promise<void>) | undefined>
  feed: (ids: readonly DestinationId[]) => void
  random: () => number
  log: Log
  metrics: Metrics
}): Component[] {
  let behind = false
  return [
    loop({
      name: 'lease sweep',
      everyMs: sweepEveryMs,
      random,
      log,
      work: async () => {
        const ended = await sweepLeases(store.fast, leasesPerSweep)
        if (ended.length > 0) {
          metrics.sweptRows.inc({ kind: 'lease' }, ended.length)
          feed([...new Set(ended.map((one) => one.destinationId))])
          for (const one of ended)
            if (one.state === 'dead')
              log.error(
                { event: 'delivery.dead', id: one.id, reason: 'leases_lost' },
                'a delivery ended because its leases kept being lost',
              )
        }
        return ended.length === leasesPerSweep ? 'more' : 'idle'
      },
    }),
    loop({
      name: 'queued sweep',
      everyMs: sweepEveryMs,
      random,
      log,
      work: async (signal) => {
        if (behind) await delay(behindEveryMs, undefined, { signal }).catch(() => {})
        if (signal.aborted) return 'idle'
        // One at least, which waits its turn for a socket: a consumer with a backlog refills every free one.
        const room = Math.max(1, Math.min(queuedPerSweep, slots.free()))
        const due = await dueQueued(store.fast, room)
        behind = due.length === room
        if (due.length === 0) return 'idle'
        metrics.sweptRows.inc({ kind: 'queued' }, due.length)
        // Waits for the leases, which take these rows out of the next sweep, and not for the attempts. Each send begins as
        // its lease comes, whatever becomes of the others: only the send gives its slot back.
        await Promise.allSettled(
          due.map(async (one) => {
            const send = await takeLease(one.id, one.generation)
            send?.().catch((error: unknown) =>
              log.error(
                { event: 'delivery.failed', error },
                'an attempt broke off; its lease runs out and it is tried again',
              ),
            )
          }),
        )
        return 'more'
      },
    }),
    loop({
      name: 'feed sweep',
      everyMs: feedEveryMs,
      random,
      log,
      work: async () => {
        feed(await dueDestinations(store.fast, destinationsPerSweep))
        return 'idle'
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
