import { clockSync } from '@tenterhook/lifecycle/clock-sync'
import { systemClock } from '@tenterhook/lifecycle/clock'
import { describeEnvironment, type Environment } from '@tenterhook/lifecycle/environment'
import type { ServiceSettings } from '@tenterhook/lifecycle/service'
import { tracingSettings } from '@tenterhook/lifecycle/service-variables'
import { createWatchdog, watchdogLimits } from '@tenterhook/lifecycle/watchdog'
import { createConsumer } from '@tenterhook/queue/consumer'
import { createFeeder } from '@tenterhook/queue/feeder'
import { createProducer } from '@tenterhook/queue/producer'
import type { DestinationId, EventId } from '@tenterhook/schemas/ids'
import type { Probe } from '@tenterhook/schemas/probe'
import { readAcceptedEvents } from '@tenterhook/store/claim'
import { readClock } from '@tenterhook/store/clock'
import { readRoutingConfig } from '@tenterhook/store/config'
import { openStore } from '@tenterhook/store/connect'
import { checkStore } from '@tenterhook/store/durability'
import { countAdmitted, feed, queueWaitMs } from '@tenterhook/store/feed'
import { overdueEvent, takesWrites } from '@tenterhook/store/overdue'
import { routeEvents as commitRouting } from '@tenterhook/store/route'
import { createLogger } from '@tenterhook/telemetry/log'
import { createMetrics } from '@tenterhook/telemetry/metrics'
import { createTracing } from '@tenterhook/telemetry/trace'
import type { routerVariables } from './config.ts'
import { housekeeping } from './housekeeping.ts'
import { routeEvents, type RouteDeps } from './route.ts'
import { createRulebooks } from './rulebook.ts'
import { routerSweeps } from './sweep.ts'

/** The router, wired: what main.ts runs, and what a test's own entry runs with a probe that kills. */
export async function routerService(
  environment: Environment<typeof routerVariables>,
  probe: Probe,
  limits = watchdogLimits,
): Promise<ServiceSettings & { settings: Record<string, unknown> }> {
  const log = createLogger({ service: 'router', level: environment.LOG_LEVEL })
  const metrics = createMetrics({ service: 'router' })
  const clock = systemClock()
  const tracing = await createTracing({ service: 'router', ...tracingSettings(environment), log, clock })
  const keys = environment.TENTERHOOK_ENCRYPTION_KEYS
  const store = openStore({
    connectionString: environment.DATABASE_URL,
    applicationName: 'tenterhook-router',
    connectionsMax: { durable: 1, fast: 8, guarded: 1 },
    onConnectionError: (error) => log.warn({ event: 'postgres.connection_lost', error: error.message }),
  })
  const producer = createProducer({ url: environment.REDIS_URL, log })
  const feeder = createFeeder({
    feed: (wanted, throughQueue) =>
      feed(store.fast, wanted as { id: DestinationId; max: number }[], throughQueue ? queueWaitMs : 0),
    add: producer.addDeliveries,
    admissionOpen: producer.healthy,
    countAdmitted: () => countAdmitted(store.fast),
    log,
    random: Math.random,
  })
  const watchdog = createWatchdog({
    name: 'router',
    // Of pools that work doesn't use: one that is stuck is what this is about.
    readDue: (overdueMsMin) => overdueEvent(store.durable, overdueMsMin),
    takesWrites: () => takesWrites(store),
    monotonicMs: clock.monotonicMs,
    log,
    limits,
  })
  const deps: RouteDeps = {
    rulebooks: createRulebooks(() => readRoutingConfig(store.fast)),
    // Without a queue there is nothing to wait for: the sweep may lease at once.
    commit: async (version, batch) => {
      const waitMs = producer.healthy() ? queueWaitMs : 0
      const routed = await commitRouting(store.fast, version, batch, waitMs, feeder.room() > 0)
      if (routed.kind === 'routed') watchdog.progressed('routed')
      return routed
    },
    enqueue: (admitted) => {
      feeder.admitted(admitted.length)
      void producer.addDeliveries(admitted)
    },
    feed: feeder.request,
    tracing,
    log,
    metrics,
    monotonicMs: clock.monotonicMs,
    probe,
  }
  const consumer = createConsumer({
    url: environment.REDIS_URL,
    queue: 'route',
    concurrency: environment.TENTERHOOK_ROUTER_CONCURRENCY,
    handle: async (job) => {
      // Of large bodies a few at a time. What was handed over is not asked for again, whatever became of it.
      for (let left = job.eventIds as EventId[]; left.length > 0;) {
        const events = await readAcceptedEvents(store.fast, left)
        if (events.length === 0) return
        await routeEvents(events, deps)
        const seen = new Set(events.map((event) => event.id))
        left = left.filter((id) => !seen.has(id))
      }
    },
    log,
  })

  return {
    name: 'router',
    log,
    settings: describeEnvironment(environment),
    draining: new AbortController(),
    drainDelayMs: environment.TENTERHOOK_DRAIN_DELAY,
    graceMs: environment.TENTERHOOK_GRACE,
    ops: {
      host: environment.HOST,
      port: environment.TENTERHOOK_OPS_PORT,
      metrics: metrics.registry,
      checks: { postgres: () => readClock(store.guarded).then(() => undefined) },
    },
    components: [
      { name: 'telemetry', start: async () => {}, stop: () => tracing.shutdown() },
      {
        name: 'store',
        start: async () => {
          await checkStore(store, keys, environment.TENTERHOOK_ALLOW_UNSAFE_POSTGRES)
        },
        stop: () => store.close(),
      },
      clockSync({
        clock,
        readPostgresMs: () => readClock(store.fast),
        log,
        onOffset: (ms) => metrics.clockOffset.set(ms / 1_000),
      }),
      { name: 'queue', start: async () => {}, stop: (signal) => producer.stop(signal) },
      { name: 'feeder', start: async () => {}, stop: (signal) => feeder.stop(signal) },
      ...routerSweeps({ store, deps, random: Math.random, log, metrics }),
      ...housekeeping({
        store,
        retentionMs: environment.TENTERHOOK_RETENTION,
        nowMs: clock.nowMs,
        random: Math.random,
        log,
        metrics,
      }),
      consumer,
      watchdog,
    ],
  }
}
