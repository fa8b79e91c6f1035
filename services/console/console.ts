import { clockSync } from '@tenterhook/lifecycle/clock-sync'
import { systemClock } from '@tenterhook/lifecycle/clock'
import { describeEnvironment, type Environment } from '@tenterhook/lifecycle/environment'
import { httpServer } from '@tenterhook/lifecycle/http-server'
import type { ServiceSettings } from '@tenterhook/lifecycle/service'
import { tracingSettings } from '@tenterhook/lifecycle/service-variables'
import { openQueuesForBoard } from '@tenterhook/queue/board'
import { createFeeder } from '@tenterhook/queue/feeder'
import { createProducer } from '@tenterhook/queue/producer'
import { newId, type DestinationId } from '@tenterhook/schemas/ids'
import { bodyBytesCeiling } from '@tenterhook/schemas/source'
import { readClock } from '@tenterhook/store/clock'
import { readConfig, readConnections } from '@tenterhook/store/config'
import { openStore } from '@tenterhook/store/connect'
import { pauseConnection, resumeConnection } from '@tenterhook/store/connection-state'
import { cancelDelivery, pauseDestination, resumeDestination } from '@tenterhook/store/destination-state'
import { checkStore } from '@tenterhook/store/durability'
import { withFaults } from '@tenterhook/store/faults'
import { countAdmitted, feed, queueWaitMs } from '@tenterhook/store/feed'
import { listConnections } from '@tenterhook/store/list-connections'
import { listDeliveries } from '@tenterhook/store/list-deliveries'
import { listDestinations } from '@tenterhook/store/list-destinations'
import { listEvents } from '@tenterhook/store/list-events'
import { promoteDuplicate } from '@tenterhook/store/promote'
import { readEventContent } from '@tenterhook/store/read-event'
import { readRemembered } from '@tenterhook/store/remembered'
import { replayEvent } from '@tenterhook/store/replay'
import { retryDelivery } from '@tenterhook/store/retry'
import { createLogger } from '@tenterhook/telemetry/log'
import { createMetrics } from '@tenterhook/telemetry/metrics'
import { createTracing } from '@tenterhook/telemetry/trace'
import { createAccess } from './access.ts'
import { actions, type ActionDeps } from './actions.ts'
import { adminToken, safeTokenCharsMin } from './admin-token.ts'
import { apiRouter } from './api.ts'
import { boardRouter } from './board.ts'
import type { consoleVariables } from './config.ts'
import { readers } from './lists.ts'
import { createReporter } from './report.ts'
import { createConsoleServer } from './server.ts'
import { signInRouter } from './sign-in.ts'
import { createTryLimit } from './try-limit.ts'

/** When the router's sweep takes a promoted event over that no route job brought; without a queue, at once. */
const routeWaitMs = 5_000

/** The console, wired. It never sits in the path of an event. */
export async function consoleService(
  environment: Environment<typeof consoleVariables>,
): Promise<ServiceSettings & { settings: Record<string, unknown> }> {
  const log = createLogger({ service: 'console', level: environment.LOG_LEVEL })
  const metrics = createMetrics({ service: 'console' })
  const clock = systemClock()
  const tracing = await createTracing({ service: 'console', ...tracingSettings(environment), log, clock })
  const keys = environment.TENTERHOOK_ENCRYPTION_KEYS
  const store = openStore({
    connectionString: environment.DATABASE_URL,
    applicationName: 'tenterhook-console',
    connectionsMax: { durable: 2, fast: 1, guarded: 4 },
    onConnectionError: (error) => log.warn({ event: 'postgres.connection_lost', error: error.message }),
  })
  const reads = withFaults(store.guarded)
  const writes = withFaults(store.durable)
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
  const board = openQueuesForBoard({ url: environment.REDIS_URL, log })
  const draining = new AbortController()

  const reporter = createReporter({ log, metrics })
  const token = adminToken({ token: environment.TENTERHOOK_ADMIN_TOKEN, file: environment.TENTERHOOK_ADMIN_TOKEN_FILE })
  const given = environment.TENTERHOOK_ADMIN_TOKEN
  if (given !== undefined && given.length < safeTokenCharsMin) {
    log.warn(
      { event: 'access.token_short' },
      `TENTERHOOK_ADMIN_TOKEN is shorter than ${safeTokenCharsMin} characters: it may be guessed`,
    )
  }
  const access = createAccess({
    token,
    tries: createTryLimit({ monotonicMs: clock.monotonicMs }),
    nowMs: clock.nowMs,
    onRefused: reporter.refused,
  })
  const acting: ActionDeps = {
    recall: (key) => readRemembered(reads, key),
    readEvent: async (id) => {
      const [event] = (await listEvents(reads, { ids: [id] }, { limit: 1 })).rows
      const content = event && (await readEventContent(reads, id, bodyBytesCeiling))
      return event && content && { event, content }
    },
    readDelivery: async (id) => (await listDeliveries(reads, { ids: [id] }, { limit: 1 })).rows[0],
    readConnection: async (id) => (await readConnections(reads, [id]))[0],
    destinations: {
      read: async (nameOrId) => (await listDestinations(reads, { nameOrId }, { limit: 1 }, keys)).rows[0],
      pause: (id, reason) => pauseDestination(writes, id, reason),
      resume: (id) => resumeDestination(writes, id),
    },
    connections: {
      read: async (nameOrId) => (await listConnections(reads, { nameOrId }, { limit: 1 })).rows[0],
      pause: (id, reason) => pauseConnection(writes, id, reason),
      resume: (id) => resumeConnection(writes, id),
    },
    readConfig: () => readConfig(reads, keys),
    commit: (replay) => replayEvent(writes, replay),
    retry: (retry) => retryDelivery(writes, retry),
    cancel: (id) => cancelDelivery(writes, id),
    promote: (id) => promoteDuplicate(writes, id, newId('evt', clock.nowMs()), producer.healthy() ? routeWaitMs : 0),
    // What operators ask for is little, and seldom of two tenants at once: all take their turns as one.
    feed: (ids) => feeder.request(ids.map((id) => ({ id, tenant: '' }))),
    enqueue: (eventId) => producer.addRoute([eventId]),
    report: reporter.acted,
    tracing,
    nowMs: clock.nowMs,
  }
  const server = createConsoleServer({
    access,
    token,
    signIn: signInRouter({ access, nowMs: clock.nowMs, report: reporter.signedIn }),
    api: apiRouter({ reading: readers({ db: reads, keys }), acting: actions(acting) }),
    board: boardRouter({ board, basePath: '/queues', writable: environment.TENTERHOOK_BOARD_WRITABLE }),
    trustedProxies: environment.TENTERHOOK_TRUSTED_PROXIES,
    onFault: reporter.failed,
  })

  return {
    name: 'console',
    log,
    settings: describeEnvironment(environment),
    draining,
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
      // Before anything is opened: without a token nobody could come in.
      { name: 'admin token', start: () => token.current().then(() => undefined), stop: async () => {} },
      {
        name: 'store',
        start: async () => {
          await checkStore(store, keys, environment.TENTERHOOK_ALLOW_UNSAFE_POSTGRES)
        },
        stop: () => store.close(),
      },
      clockSync({
        clock,
        readPostgresMs: () => readClock(store.guarded),
        log,
        onOffset: (ms) => metrics.clockOffset.set(ms / 1_000),
      }),
      { name: 'queue', start: async () => {}, stop: (signal) => producer.stop(signal) },
      { name: 'board', start: async () => {}, stop: () => board.close() },
      { name: 'feeder', start: async () => {}, stop: (signal) => feeder.stop(signal) },
      httpServer({
        name: 'http',
        server,
        host: environment.HOST,
        port: environment.PORT,
        portVariable: 'PORT',
        draining: draining.signal,
      }),
    ],
  }
}
