import type { Component } from '@tenterhook/lifecycle/component'
import { loop } from '@tenterhook/lifecycle/loop'
import type { DestinationId } from '@tenterhook/schemas/ids'
import { claimDueEvents, endUnroutable, uncountTries } from '@tenterhook/store/claim'
import type { Store } from '@tenterhook/store/connect'
import { dueDestinations, unblockStuck, type OrderKey } from '@tenterhook/store/feed'
import { destinationsNotHealthy } from '@tenterhook/store/health'
import { oldestDueAge, oldestSnapshotAge } from '@tenterhook/store/sweep'
import type { Log } from '@tenterhook/telemetry/log'
import type { Metrics } from '@tenterhook/telemetry/metrics'
import { reportUnroutable, routeEvents, type RouteDeps } from './route.ts'

const sweepEveryMs = 1_000
const eventsPerSweep = 200
const destinationsPerSweep = 1_000
const orderKeysPerSweep = 1_000
/** When a swept event that was claimed and not routed is swept again: times its tries. */
const sweptRouteWaitMs = 5_000
const measureEveryMs = 5_000
const destinationsShownMax = 10_000

/** The loops that make the router's work independent of Redis. */
export function routerSweeps({
  store,
  deps,
  random,
  log,
  metrics,
}: {
  store: Store
  deps: RouteDeps
  random: () => number
  log: Log
  metrics: Metrics
}): Component[] {
  let fedTo: DestinationId | null = null
  let orderedTo: OrderKey | null = null
  return [
    loop({
      name: 'event sweep',
      everyMs: sweepEveryMs,
      random,
      log,
      work: async () => {
        reportUnroutable(await endUnroutable(store.fast, eventsPerSweep), deps)
        // A configuration that can't be read is no event's fault: nothing is claimed, no try is counted.
        await deps.rulebooks.current()
        const events = await claimDueEvents(store.fast, eventsPerSweep, sweptRouteWaitMs)
        if (events.length > 0) metrics.sweptRows.inc({ kind: 'event' }, events.length)
        try {
          await routeEvents(events, deps)
        } catch (error) {
          await uncountTries(
            store.fast,
            events.map((event) => event.id),
          )
          throw error
        }
        return events.length > 0 ? 'more' : 'idle'
      },
    }),
    loop({
      name: 'feed sweep',
      everyMs: sweepEveryMs,
      random,
      log,
      work: async () => {
        const { due, walkedTo } = await dueDestinations(store.fast, fedTo, destinationsPerSweep)
        deps.feed(due)
        fedTo = walkedTo
        return 'idle'
      },
    }),
    loop({
      name: 'order sweep',
      everyMs: sweepEveryMs,
      random,
      log,
      work: async () => {
        orderedTo = await unblockStuck(store.fast, orderedTo, orderKeysPerSweep)
        return 'idle'
      },
    }),
    loop({
      name: 'measuring',
      everyMs: measureEveryMs,
      random,
      log,
      work: async () => {
        const notHealthy = await destinationsNotHealthy(store.guarded, destinationsShownMax)
        metrics.destinationsNotHealthy.show(notHealthy.map(({ name, state }) => ({ destination: name, state })))
        metrics.oldestDueAge.set((await oldestDueAge(store.guarded)) / 1_000)
        metrics.oldestSnapshotAge.set((await oldestSnapshotAge(store.guarded)) / 1_000)
        return 'idle'
      },
    }),
  ]
}
