import { clockSync } from '@tenterhook/lifecycle/clock-sync'
import { systemClock } from '@tenterhook/lifecycle/clock'
import { describeEnvironment, type Environment } from '@tenterhook/lifecycle/environment'
import { loop } from '@tenterhook/lifecycle/loop'
import type { ServiceSettings } from '@tenterhook/lifecycle/service'
import { tracingSettings } from '@tenterhook/lifecycle/service-variables'
import { createConsumer } from '@tenterhook/queue/consumer'
import { openEpoch } from '@tenterhook/queue/epoch'
import { createFeeder } from '@tenterhook/queue/feeder'
import { createProducer } from '@tenterhook/queue/producer'
import type { DeliveryId, DestinationId } from '@tenterhook/schemas/ids'
import type { Probe } from '@tenterhook/schemas/probe'
import { readClock } from '@tenterhook/store/clock'
import { readConnections, readDestinations } from '@tenterhook/store/config'
import { openStore } from '@tenterhook/store/connect'
import { checkStore } from '@tenterhook/store/durability'
import { readRedisEpoch, wakeForNewEpoch, winRedisEpoch } from '@tenterhook/store/epoch'
import { feed, queueWaitMs } from '@tenterhook/store/feed'
import { lease, readBody } from '@tenterhook/store/lease'
import { recordResults, releaseLeases } from '@tenterhook/store/results'
import { createLogger } from '@tenterhook/telemetry/log'
import { createMetrics } from '@tenterhook/telemetry/metrics'
import { createTracing } from '@tenterhook/telemetry/trace'
import type { dispatcherVariables } from './config.ts'
import { deliver, takeLease, type DeliverDeps } from './deliver.ts'
import { watchEpoch } from './epoch-watch.ts'
import { createGuard } from './guard.ts'
import { createLeases } from './leases.ts'
import { createResolver } from './resolve.ts'
import { createResults } from './results.ts'
import { createSender } from './send.ts'
import { createSlots } from './slots.ts'
import { dispatcherSweeps } from './sweep.ts'
import { createTargets } from './targets.ts'

const epochEveryMs = 1_000

/** The dispatcher, wired: what main.ts runs, and what a test's own entry runs with a probe that kills. */
export async function dispatcherService(
  environment: Environment<typeof dispatcherVariables>,
  probe: Probe,
): Promise<ServiceSettings & { settings: Record<string, unknown> }> {
  const log = createLogger({ service: 'dispatcher', level: environment.LOG_LEVEL })
  const metrics = createMetrics({ service: 'dispatcher' })
  const clock = systemClock()
  const tracing = await createTracing({ service: 'dispatcher', ...tracingSettings(environment), log, clock })
  const keys = environment.TENTERHOOK_ENCRYPTION_KEYS
  const store = openStore({
    connectionString: environment.DATABASE_URL,
    applicationName: 'tenterhook-dispatcher',
    connectionsMax: { durable: 2, fast: 10, guarded: 1 },
    onConnectionError: (error) => log.warn({ event: 'postgres.connection_lost', error: error.message }),
  })
  const producer = createProducer({ url: environment.REDIS_URL, log })
  const epoch = openEpoch({ url: environment.REDIS_URL, log })
  const feeder = createFeeder({
    feed: (ids) => feed(store.fast, ids as DestinationId[], producer.healthy() ? queueWaitMs : 0),
    add: producer.addDeliveries,
    log,
    random: Math.random,
  })
  const targets = createTargets({
    readDestinations: (ids) => readDestinations(store.fast, ids, keys),
    readConnections: (ids) => readConnections(store.fast, ids),
  })
  const sender = createSender({
    guard: createGuard({ allowCidrs: environment.TENTERHOOK_ALLOW_CIDRS }),
    resolver: createResolver({ monotonicMs: clock.monotonicMs }),
    monotonicMs: clock.monotonicMs,
  })
  const results = createResults({
    record: (batch) => recordResults(store.fast, batch),
    onFailed: (error, count) =>
      log.warn(
        { event: 'results.not_recorded', results: count, error },
        'results could not be recorded; they are kept and tried again',
      ),
  })
  const slots = createSlots(environment.TENTERHOOK_DISPATCHER_CONCURRENCY)
  const deps: DeliverDeps = {
    slots,
    leases: createLeases((wanted) => lease(store.fast, wanted)),
    targetOf: targets.get,
    readBody: (id) => readBody(store.fast, id),
    sender,
    results,
    release: (leased, delayMs) => releaseLeases(store.fast, [leased], delayMs),
    feed: feeder.request,
    tracing,
    log,
    metrics,
    clock,
    random: Math.random,
    probe,
  }
  const hardStop = new AbortController()
  let flagsAreReset = false
  const consumer = createConsumer({
    url: environment.REDIS_URL,
    queue: 'deliver',
    concurrency: environment.TENTERHOOK_DISPATCHER_CONCURRENCY,
    handle: (job, signal) => deliver(job.id as DeliveryId, job.generation, deps, signal),
    log,
  })

  return {
    name: 'dispatcher',
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
      { name: 'results', start: async () => {}, stop: (signal) => results.stop(signal) },
      { name: 'sender', start: async () => {}, stop: () => sender.close() },
      {
        name: 'attempts under way',
        start: async () => {},
        // They finish; what the grace cuts off is another dispatcher's when its lease is over.
        stop: async (signal) => {
          if (signal.aborted) hardStop.abort()
          signal.addEventListener('abort', () => hardStop.abort(), { once: true })
          await slots.drained(signal)
        },
      },
      { name: 'epoch', start: async () => {}, stop: () => epoch.stop() },
      loop({
        name: 'epoch watch',
        everyMs: epochEveryMs,
        random: Math.random,
        log,
        work: async () => {
          // Once it can be reached: what a visitor or an old dump left would hold the queues for ever.
          flagsAreReset ||= await epoch.resetQueueFlags()
          await watchEpoch({
            readRedis: epoch.readEpoch,
            writeRedis: epoch.writeEpochKey,
            resetQueueFlags: epoch.resetQueueFlags,
            readStored: () => readRedisEpoch(store.fast),
            win: (seen, now) => winRedisEpoch(store.fast, seen, now),
            wake: (perSecond) => wakeForNewEpoch(store.fast, perSecond),
            onEpoch: () => metrics.redisEpochs.inc(),
            log,
          })
          return 'idle'
        },
      }),
      consumer,
      // Last, so that they stop first: nothing new is begun while the consumer's handlers end.
      ...dispatcherSweeps({
        store,
        slots,
        takeLease: (id, generation) => takeLease(id, generation, deps, hardStop.signal),
        feed: feeder.request,
        random: Math.random,
        log,
        metrics,
      }),
    ],
  }
}
