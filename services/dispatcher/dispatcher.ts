import { clockSync } from '@tenterhook/lifecycle/clock-sync'
import { systemClock } from '@tenterhook/lifecycle/clock'
import { describeEnvironment, type Environment } from '@tenterhook/lifecycle/environment'
import { loop } from '@tenterhook/lifecycle/loop'
import type { ServiceSettings } from '@tenterhook/lifecycle/service'
import { tracingSettings } from '@tenterhook/lifecycle/service-variables'
import { createWatchdog, watchdogLimits } from '@tenterhook/lifecycle/watchdog'
import { createConsumer } from '@tenterhook/queue/consumer'
import { openEpoch } from '@tenterhook/queue/epoch'
import { createFeeder } from '@tenterhook/queue/feeder'
import { createProducer } from '@tenterhook/queue/producer'
import { deliverQueues, type HintOf } from '@tenterhook/queue/names'
import { throttle } from '@tenterhook/queue/throttle'
import type { DestinationId } from '@tenterhook/schemas/ids'
import type { Probe } from '@tenterhook/schemas/probe'
import { lanes, type Lane } from '@tenterhook/schemas/states'
import { readClock } from '@tenterhook/store/clock'
import { readConnections, readDestinations } from '@tenterhook/store/config'
import { openStore } from '@tenterhook/store/connect'
import { checkStore } from '@tenterhook/store/durability'
import { readRedisEpoch, wakeForNewEpoch, winRedisEpoch } from '@tenterhook/store/epoch'
import { countAdmitted, feed, queueWaitMs } from '@tenterhook/store/feed'
import { readBody } from '@tenterhook/store/lease'
import { overdueDelivery, takesWrites } from '@tenterhook/store/overdue'
import { createLogger } from '@tenterhook/telemetry/log'
import { createMetrics } from '@tenterhook/telemetry/metrics'
import { createTracing } from '@tenterhook/telemetry/trace'
import type { dispatcherVariables } from './config.ts'
import { deliver, type DeliverDeps } from './deliver.ts'
import { watchEpoch } from './epoch-watch.ts'
import { createGuard } from './guard.ts'
import { createHealth } from './health.ts'
import { createLeases } from './leases.ts'
import { createResolver } from './resolve.ts'
import { createResults } from './results.ts'
import { createSender } from './send.ts'
import { createSlots, loneShare, shareOfAll } from './slots.ts'
import { dispatcherSweeps, handBackAll } from './sweep.ts'
import { createTargets } from './targets.ts'
import { watchedTransactions } from './watched.ts'

const epochEveryMs = 1_000
/**
 * Jobs of a lane in hand at once, and hints of them being seen to: each for as long as its lease takes to be answered, or
 * until its lane has a socket. So what is in memory is bounded by this, whatever the sockets are.
 */
const hintsPerLaneMax = 64
/** Idle sockets that are kept beside those in use, in parts of them. */
const idleSockets = 0.25
const logWindowMs = 5_000

/** The dispatcher, wired: what main.ts runs, and what a test's own entry runs with a probe that kills. */
export async function dispatcherService(
  environment: Environment<typeof dispatcherVariables>,
  probe: Probe,
  limits = watchdogLimits,
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
    // Without a queue there is nothing to wait for: the sweep may lease at once.
    feed: (wanted, throughQueue) =>
      feed(store.fast, wanted as { id: DestinationId; max: number }[], throughQueue ? queueWaitMs : 0),
    add: producer.addDeliveries,
    admissionOpen: producer.healthy,
    countAdmitted: () => countAdmitted(store.fast),
    log,
    random: Math.random,
  })
  const watchdog = createWatchdog({
    name: 'dispatcher',
    // Of pools that work doesn't use: one that is stuck is what this is about.
    readDue: (overdueMsMin) => overdueDelivery(store.durable, overdueMsMin),
    takesWrites: () => takesWrites(store),
    monotonicMs: clock.monotonicMs,
    log,
    limits,
  })
  const transactions = watchedTransactions(store.fast, watchdog)
  const targets = createTargets({
    readDestinations: (ids) => readDestinations(store.fast, ids, keys),
    readConnections: (ids) => readConnections(store.fast, ids),
  })
  const sockets = environment.TENTERHOOK_DISPATCHER_CONCURRENCY
  const sender = createSender({
    guard: createGuard({ allowCidrs: environment.TENTERHOOK_ALLOW_CIDRS }),
    resolver: createResolver({ monotonicMs: clock.monotonicMs }),
    monotonicMs: clock.monotonicMs,
    socketsMax: Math.ceil(sockets * (1 + idleSockets)),
    socketsPerDestinationMax: shareOfAll(sockets),
  })
  const results = createResults({
    record: transactions.record,
    onFailed: (error, count) =>
      log.warn(
        { event: 'results.not_recorded', results: count, error },
        'results could not be recorded; they are kept and tried again',
      ),
  })
  const hardStop = new AbortController()
  const slots = createSlots({
    sockets,
    go: (hint, slot) => deliver(hint, slot, deps, hardStop.signal),
    monotonicMs: clock.monotonicMs,
  })
  const health = createHealth({
    share: (lane) => loneShare(sockets, lane),
    isCrowded: slots.isCrowded,
    monotonicMs: clock.monotonicMs,
  })
  const deps: DeliverDeps = {
    leases: createLeases(transactions.lease),
    targetOf: targets.get,
    readBody: (id) => readBody(store.fast, id),
    sender,
    results,
    release: transactions.release,
    feed: feeder.request,
    health,
    onLeaseFailed: throttle<unknown>({
      windowMs: logWindowMs,
      write: (error, suppressed) =>
        log.warn({ event: 'lease.failed', error, suppressed }, 'leases could not be asked for; the sweep finds these'),
    }),
    tracing,
    log,
    metrics,
    clock,
    random: Math.random,
    probe,
  }
  let flagsAreReset = false
  const consumerOf = (lane: Lane) =>
    createConsumer({
      url: environment.REDIS_URL,
      queue: deliverQueues[lane],
      concurrency: hintsPerLaneMax,
      handle: (hint: HintOf['deliver']) => slots.offer({ ...hint, lane }),
      log,
    })
  const consumers = lanes.map(consumerOf)

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
      {
        name: 'lanes',
        start: async () => {
          await Promise.all(consumers.map((consumer) => consumer.start()))
        },
        stop: async (signal) => {
          const stopped = consumers.map((consumer) => consumer.stop(signal))
          // What waits for a socket here is another copy's; the handlers that wait with it end.
          await handBackAll(store, slots.close()).catch((error: unknown) =>
            log.warn({ event: 'hand_back.failed', error }, 'what waited here is found by the sweep'),
          )
          await Promise.all(stopped)
        },
      },
      // Last, so that they stop first: nothing new is begun while the consumers' handlers end.
      ...dispatcherSweeps({
        store,
        slots,
        health,
        feeder,
        destinationName: async (id) => {
          const [destination] = await readDestinations(store.fast, [id], keys)
          return destination?.spec.name ?? id
        },
        random: Math.random,
        log,
        metrics,
      }),
      watchdog,
    ],
  }
}
