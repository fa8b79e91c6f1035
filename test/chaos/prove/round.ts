/** One round: the system is started, loaded, hurt by a plan, healed, left to drain, and then asked what became of it all. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { guard } from '@tenterhook/cli/local/guardian'
import type { Store } from '@tenterhook/store/connect'
import { startWorker } from '../../bench/worker.ts'
import { until } from '../../support/poll.ts'
import { keepablePort } from '../../support/ports.ts'
import { check, recoveries } from './check.ts'
import type { Figures, Recovery, Violation } from './check.ts'
import type { Question, Urls } from './destinations.ts'
import { readArrivals, readCrashes, readSent, readTables } from './evidence.ts'
import type { Evidence, FaultRan, Sample } from './evidence.ts'
import { openJournal, steadyMs } from './journal.ts'
import { healAll, inflictAll } from './nemesis.ts'
import { planFaults, serviceCopies } from './plan.ts'
import type { FaultKind, Quotas } from './plan.ts'
import { seeded } from './random.ts'
import { startSender } from './sender.ts'
import { startSystem } from './system.ts'
import { configuration, healthyNames } from './topology.ts'
import { watch } from './watch.ts'

export type Round = {
  seed: number
  figures: Figures
  violations: Violation[]
  faults: FaultRan[]
  skipped: Map<FaultKind, string>
  /** Faults that broke off, and why. */
  failed: readonly string[]
  recoveries: Recovery[]
  /** From the end of the last fault. */
  drainMs: number | null
  samples: Sample[]
  /** Services that ended by themselves. */
  deaths: readonly string[]
  postgresRestarts: number
  lastedMs: number
}

export type RoundOptions = {
  seed: number
  quotas: Quotas
  perSecond: number
  /** Holds data, logs and journals; the caller removes it. */
  home: string
  root: string
  /** Undefined: clocks are left alone. */
  faketime: string | undefined
  say: (line: string) => void
}

const calmMs = 2_000
/** A lease that died with its dispatcher, then a connection that nobody told it was dead (30 s), then a retry. */
const drainTimeoutMs = 120_000
/** Deliveries of sick destinations end by their age. */
const sickTimeoutMs = 150_000
const closeTimeoutMs = 500

/** What it starts is ended by `resources`, also when it breaks off half-way. */
export async function runRound(
  { seed, quotas, perSecond, home, root, faketime, say }: RoundOptions,
  resources: AsyncDisposableStack,
): Promise<Round> {
  const startedMs = performance.now()
  const journals = { sender: join(home, 'sender.ndjson'), destinations: join(home, 'destinations.ndjson') }
  await mkdir(join(home, 'logs'), { recursive: true })
  await mkdir(join(home, 'run'), { recursive: true })

  const destinations = startWorker<Question, Urls | null>('../chaos/prove/destinations.ts')
  resources.defer(() => destinations.stop())
  const urls = await destinations.ask({ kind: 'open', journal: journals.destinations })
  if (urls === null) throw new Error('the destinations have no URLs')
  const deaf = await startDeaf(home, root)
  resources.defer(() => deaf.stop())

  const system = await startSystem({ home, config: configuration({ ...urls, deaf: deaf.url }), faketime }, resources)
  const random = seeded(seed)
  const [first, ...others] = serviceCopies
    .filter((name) => name.startsWith('ingest'))
    .map((name) => system.services.get(name)?.url ?? '')
  const sender = startSender({
    origins: [first ?? '', ...others],
    perSecond,
    journal: await openJournal(journals.sender),
    random: random.fork('sender'),
  })
  const watching = new AbortController()
  const samples = watch(system, watching.signal)
  await delay(calmMs)

  const { faults, skipped, failed } = await inflictAll(
    system,
    planFaults(seed, quotas),
    AbortSignal.timeout(quotas.ms * 3 + 60_000),
  )
  await healAll(system)
  await destinations.ask({ kind: 'heal' })
  deaf.wake()
  const healedMs = steadyMs()
  say(`  ${faults.length} faults done, ${sender.accepted()} events accepted; healed, now it drains`)
  await delay(calmMs)
  await sender.stop()
  const drainedMs = await drained(system.store, healthyNames, drainTimeoutMs)
  await drained(system.store, [], sickTimeoutMs)
  watching.abort()

  const tables = await until(() => readTables(system.store), { what: 'the tables', timeoutMs: 60_000 })
  await destinations.ask({ kind: 'close' })
  const evidence: Evidence = {
    ...tables,
    sent: await readSent(journals.sender),
    arrivals: await readArrivals(journals.destinations),
    faults,
    crashes: await readCrashes(join(home, 'logs/postgres.log')),
    deaths: [...system.deaths],
    samples: await samples,
    drainedMs,
  }
  const verdict = check(evidence)
  // The database ends with the round.
  if (verdict.violations.length > 0) await writeFile(join(home, 'tables.json'), JSON.stringify(tables))
  return {
    seed,
    ...verdict,
    faults,
    skipped,
    failed,
    recoveries: recoveries(evidence),
    drainMs: drainedMs === null ? null : drainedMs - healedMs,
    samples: evidence.samples,
    deaths: [...system.deaths],
    postgresRestarts: system.postgres.restarts(),
    lastedMs: performance.now() - startedMs,
  }
}

/** When every event was routed and every delivery to these (none named: to any) had ended; null when that took too long. */
async function drained({ durable }: Store, destinations: readonly string[], timeoutMs: number): Promise<number | null> {
  const left = async () => {
    const { rows } = await durable.query<{ events: number; deliveries: number }>(
      `SELECT (SELECT count(*)::int FROM events WHERE due_at IS NOT NULL) AS events,
         (SELECT count(*)::int FROM deliveries d JOIN destinations t ON t.id = d.destination_id
          WHERE d.due_at IS NOT NULL AND ($1::text[] = '{}' OR t.name = ANY($1::text[]))) AS deliveries`,
      [destinations],
    )
    return rows[0]?.events === 0 && rows[0].deliveries === 0
  }
  return until(left, { what: 'it to drain', timeoutMs, everyMs: 100 }).then(steadyMs, () => null)
}

/** A process that listens and is stopped: the kernel shakes a few hands, and nobody ever accepts. */
async function startDeaf(home: string, root: string): Promise<{ url: string; wake(): void; stop(): Promise<void> }> {
  const port = await keepablePort()
  const listening = guard({
    name: 'deaf',
    command: process.execPath,
    args: [join(root, 'test/chaos/prove/deaf.ts'), String(port)],
    env: { PATH: process.env['PATH'] ?? '' },
    cwd: home,
    logPath: join(home, 'logs/deaf.log'),
    recordPath: join(home, 'run/deaf.json'),
    stopSignal: 'SIGTERM',
    graceMs: closeTimeoutMs,
  })
  const url = `http://127.0.0.1:${port}/deaf`
  await until(() => fetch(url).then(({ ok }) => ok), { what: 'the deaf destination to listen' })
  process.kill(listening.pid, 'SIGSTOP')
  return {
    url,
    wake: () => void process.kill(listening.pid, 'SIGCONT'),
    stop: async () => {
      process.kill(listening.pid, 'SIGCONT')
      await listening.stop()
    },
  }
}
