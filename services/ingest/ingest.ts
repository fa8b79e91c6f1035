import { clockSync } from '@tenterhook/lifecycle/clock-sync'
import { systemClock } from '@tenterhook/lifecycle/clock'
import { describeEnvironment, type Environment } from '@tenterhook/lifecycle/environment'
import { httpServer } from '@tenterhook/lifecycle/http-server'
import type { ServiceSettings } from '@tenterhook/lifecycle/service'
import { tracingSettings } from '@tenterhook/lifecycle/service-variables'
import { createProducer } from '@tenterhook/queue/producer'
import { throttle } from '@tenterhook/queue/throttle'
import { newId } from '@tenterhook/schemas/ids'
import type { Probe } from '@tenterhook/schemas/probe'
import { acceptEvents, isRowError } from '@tenterhook/store/accept'
import { checkOut } from '@tenterhook/store/checkout'
import { readClock } from '@tenterhook/store/clock'
import { readConfigVersion, readSourcesConfig } from '@tenterhook/store/config'
import { openStore } from '@tenterhook/store/connect'
import { checkStore } from '@tenterhook/store/durability'
import { keepDuplicate } from '@tenterhook/store/duplicates'
import { recordRejections } from '@tenterhook/store/rejections'
import { createLogger } from '@tenterhook/telemetry/log'
import { createMetrics } from '@tenterhook/telemetry/metrics'
import { createTracing } from '@tenterhook/telemetry/trace'
import { bufferedBytesMax, createBodyBudget } from './body.ts'
import type { ingestVariables } from './config.ts'
import { createGroupCommit } from './group-commit.ts'
import { answerTimeoutMs, receive } from './receive.ts'
import { createRejectionLog } from './rejection-log.ts'
import { createReporter } from './report.ts'
import { createIngestServer } from './server.ts'
import { createSources } from './sources.ts'

/** When the router's sweep takes an event over that no route job brought; without a queue, at once. */
const routeWaitMs = 5_000
/** A rotated secret is refused at most this long after its change. */
const sourcesReloadEveryMs = 1_000
const faultLineEveryMs = 5_000

/** Ingest, wired: what main.ts runs, and what a test's own entry runs with a probe that kills. */
export async function ingestService(
  environment: Environment<typeof ingestVariables>,
  probe: Probe,
): Promise<ServiceSettings & { settings: Record<string, unknown> }> {
  const log = createLogger({ service: 'ingest', level: environment.LOG_LEVEL })
  const metrics = createMetrics({ service: 'ingest' })
  const clock = systemClock()
  const tracing = await createTracing({ service: 'ingest', ...tracingSettings(environment), log, clock })
  const keys = environment.TENTERHOOK_ENCRYPTION_KEYS
  const store = openStore({
    connectionString: environment.DATABASE_URL,
    applicationName: 'tenterhook-ingest',
    connectionsMax: { durable: 4, fast: 2, guarded: 1 },
    onConnectionError: (error) => log.warn({ event: 'postgres.connection_lost', error: error.message }),
  })
  const producer = createProducer({ url: environment.REDIS_URL, log })
  const draining = new AbortController()

  const sources = createSources({
    readVersion: () => readConfigVersion(store.durable),
    read: () => readSourcesConfig(store.durable, keys),
  })
  // A full disk fails hundreds of batches a second: the log must not fill another.
  const commitFailed = throttle<{ error: unknown; rows: number }>({
    windowMs: faultLineEveryMs,
    write: (failure, suppressed) => log.error({ event: 'accept.commit_failed', ...failure, suppressed }),
  })
  const rejectionsLost = throttle<{ lost: number; error: unknown }>({
    windowMs: faultLineEveryMs,
    write: (loss) => log.warn({ event: 'rejections.not_recorded', ...loss }),
  })
  const groupCommit = createGroupCommit({
    connect: async () => {
      const { db, giveBack } = await checkOut(store.durable)
      return {
        commit: (batch) => acceptEvents(db, batch, producer.healthy() ? routeWaitMs : 0),
        close: giveBack,
      }
    },
    isRowError,
    onBatch: (rows) => metrics.acceptBatchRows.observe(rows),
    onCommitFailed: (error, rows) => commitFailed({ error, rows }),
    beforeCommit: () => probe('ingest.before_commit'),
    monotonicMs: clock.monotonicMs,
  })
  const rejections = createRejectionLog({
    write: (batch) => recordRejections(store.fast, batch),
    onLost: (lost, error) => rejectionsLost({ lost, error }),
    nowMs: clock.nowMs,
  })
  const reporter = createReporter({ log, metrics, rejections })
  const budget = createBodyBudget(bufferedBytesMax, (bytes) => metrics.bufferedBytes.set(bytes))
  const server = createIngestServer({
    receive: (arrival) =>
      receive(arrival, {
        publicUrl: environment.TENTERHOOK_PUBLIC_URL.replace(/\/+$/, ''),
        sources,
        groupCommit,
        keepDuplicate: (firstId, duplicate, differs) =>
          keepDuplicate(differs ? store.durable : store.fast, newId('dup', clock.nowMs()), firstId, duplicate, differs),
        enqueue: (eventId) => producer.addRoute([eventId]),
        tracing,
        nowMs: clock.nowMs,
        random: Math.random,
        answerTimeoutMs,
        probe,
      }),
    report: reporter.receipt,
    reportRefusal: reporter.refusal,
    budget,
    trustedProxies: environment.TENTERHOOK_TRUSTED_PROXIES,
    monotonicMs: clock.monotonicMs,
    probe,
  })

  let reloading: NodeJS.Timeout | undefined
  return {
    name: 'ingest',
    log,
    settings: describeEnvironment(environment),
    draining,
    drainDelayMs: environment.TENTERHOOK_DRAIN_DELAY,
    graceMs: environment.TENTERHOOK_GRACE,
    ops: {
      host: environment.HOST,
      port: environment.TENTERHOOK_OPS_PORT,
      metrics: metrics.registry,
      checks: { postgres: () => readClock(store.durable).then(() => undefined) },
    },
    components: [
      { name: 'telemetry', start: async () => {}, stop: () => tracing.shutdown() },
      {
        name: 'store',
        start: async () => {
          const durability = await checkStore(store, keys, environment.TENTERHOOK_ALLOW_UNSAFE_POSTGRES)
          log.info({
            event: 'store.checked',
            survives: durability.survives,
            reasons: durability.reasons,
            postgres: durability.serverVersion,
          })
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
      { name: 'rejections', start: async () => {}, stop: () => rejections.stop() },
      {
        name: 'sources',
        start: async () => {
          await sources.reload()
          reloading = setInterval(() => sources.reload().catch(() => {}), sourcesReloadEveryMs)
        },
        stop: async () => clearInterval(reloading),
      },
      { name: 'group commit', start: async () => {}, stop: () => groupCommit.stop() },
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
