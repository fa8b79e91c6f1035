/**
 * Negative controls on the real system: a harness that can't fail proves nothing. Each row of PROTOCOL §4 here is run
 * twice, with real services, Postgres and Redis and the same directed scenario: with nothing broken the checks must be
 * satisfied, and with that one rule broken from outside (see changes.ts) they must say what went wrong.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadConfig } from '../../support/load.ts'
import { until } from '../../support/poll.ts'
import { startReceiver } from '../../support/receiver.ts'
import type { Receiver } from '../../support/receiver.ts'
import { drained, unfinished } from '../../support/rows.ts'
import type { ServiceProcess } from '../../support/service-process.ts'
import { sharedStack } from '../../support/stack.ts'
import type { ServiceName, Stack } from '../../support/stack.ts'
import { checkInvariants } from '../invariants.ts'
import type { Journal } from '../invariants.ts'
import { changeDatabase } from './changes.ts'
import type { Changes, ServiceChange } from './changes.ts'
import type { Controlled, Moment } from './entry.ts'
import { clearJobs } from './jobs.ts'
import { startSender } from './sender.ts'
import type { Sender } from './sender.ts'

export type Control = {
  /** The rule that is broken, in PROTOCOL §4's words. */
  readonly name: string
  readonly broken: Changes
  /** What both runs live with: a slow queue, say. */
  readonly weather?: Changes
  /** Brings about the moment in which the rule counts. What it throws, the checks found; else the invariants are asked. */
  readonly scenario: (world: World) => Promise<Pick<Journal, 'mayRepeat'> | void>
  /** What the checks say of the run in which it is broken. */
  readonly caught: RegExp
}

export type World = {
  readonly stack: Stack
  readonly receiver: Receiver
  readonly sender: Sender
  /** `router2` for a second copy. */
  start(name: string, at?: Moment): Promise<ServiceProcess>
  /** Time for what must not happen, and does when the rule is broken. */
  may(happen: () => boolean | Promise<boolean>): Promise<void>
}

/** Past the longest wait that a process which died leaves behind: a lease of 15 s and its margin. */
const waitsMs = 40_000
/** Longer than a result takes to be recorded, and a delivery to be fed after it: a lease that lives must not end by the clock. */
const restMs = 800

type Patience = {
  /** Until what is not moved on, with every wait over, counts as stuck. */
  drainMs: number
  /** For what happens only if a rule is broken. */
  mayMs: number
}
/** Long for what must happen, short for what must not: sweeps run each second, feeds twice as often. */
const whenSound: Patience = { drainMs: 20_000, mayMs: 2_500 }
const whenBroken: Patience = { drainMs: 3_000, mayMs: 25_000 }

export function provesControls({
  services,
  postgres,
  controls,
}: {
  services: readonly ServiceName[]
  postgres: 'shared' | 'own'
  controls: readonly Control[]
}): void {
  let receiver: Receiver
  beforeAll(async () => {
    receiver = await startReceiver()
  })
  afterAll(() => receiver.stop())
  const stack = sharedStack(() => ({ config: loadConfig(receiver), services, postgres }))

  for (const control of controls)
    describe(`PROTOCOL §4, ${control.name}`, () => {
      it('not broken, the checks are satisfied', { timeout: 120_000 }, () => run(control, [], whenSound))
      it('broken, it is caught', { timeout: 120_000 }, () =>
        expect(run(control, [control.broken], whenBroken)).rejects.toThrow(control.caught),
      )
    })

  async function run(control: Control, broken: readonly Changes[], patience: Patience): Promise<void> {
    const changes = [control.weather ?? {}, ...broken]
    await clean(stack(), services)
    receiver.clear()
    await stack().apply(loadConfig(receiver))
    const restore = await changeDatabase(stack().store, changes)
    try {
      const world = worldOf(stack(), receiver, changes, patience)
      const judged = await control.scenario(world)
      await settle(world, patience.drainMs)
      await checkInvariants(stack().store, { sent: world.sender.sent, received: receiver.received(), ...judged })
    } finally {
      await killAll(stack(), services)
      await restore()
    }
  }
}

function worldOf(stack: Stack, receiver: Receiver, changes: readonly Changes[], { mayMs }: Patience): World {
  return {
    stack,
    receiver,
    sender: startSender(stack),
    may: (happen) => until(happen, { what: 'what must not happen', timeoutMs: mayMs }).then(ignore, ignore),
    async start(name, at) {
      const process = stack.service(name)
      const service = name.replace(/\d$/, '') as Controlled['service']
      const change = merged(changes.map((one) => one[service] ?? {}))
      const controlled: Controlled = { service, change, ...(at && { at }) }
      await process.start({
        entry: 'test/chaos/controls/entry.ts',
        env: { ...change.env, TENTERHOOK_TEST_CONTROL: JSON.stringify(controlled) },
      })
      return process
    },
  }
}

const ignore = () => {}

function merged(changes: readonly ServiceChange[]): ServiceChange {
  const without = changes.find((change) => change.without !== undefined)?.without
  return {
    texts: changes.flatMap(({ texts }) => texts ?? []),
    env: Object.assign({}, ...changes.map(({ env }) => env)),
    ...(without !== undefined && { without }),
  }
}

/** Lets everything end that still can: what is under way first, then what waits for a time to come. */
async function settle({ stack }: World, patienceMs: number): Promise<void> {
  let seen = ''
  let sinceMs = 0
  await until(
    async () => {
      const now = await progress(stack)
      if (now !== seen) sinceMs = performance.now()
      seen = now
      return performance.now() - sinceMs > restMs
    },
    { what: 'nothing to move any more', timeoutMs: patienceMs, everyMs: 50 },
  ).catch(() => {}) // what never comes to rest is what the invariants are asked about next
  const { events, deliveries } = await unfinished(stack.store)
  if (events + deliveries === 0) return
  await stack.shiftClock(waitsMs)
  await drained(stack.store, patienceMs).catch(() => {})
}

async function progress({ store }: Stack): Promise<string> {
  const { rows } = await store.durable.query<{ state: string }>(
    `SELECT coalesce(string_agg(line, ',' ORDER BY line), '') AS state FROM (
       SELECT id || state AS line FROM events
       UNION ALL SELECT concat_ws(' ', id, state, generation, attempt) FROM deliveries)`,
  )
  return rows[0]?.state ?? ''
}

/** Nobody runs, and nothing that happened is left: rows, jobs, the destinations' own state. */
async function clean(stack: Stack, services: readonly ServiceName[]): Promise<void> {
  await killAll(stack, services)
  const { durable } = stack.store
  // A session that waits for a lock doesn't notice that its client is gone.
  await durable.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'tenterhook-%'`,
  )
  const { rows } = await durable.query<{ name: string }>(
    `SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
       AND relname <> ALL ($1)`,
    [['migrations', 'config', 'encryption_keys', 'admin_settings', 'redis_epoch']],
  )
  await durable.query(`TRUNCATE ${rows.map(({ name }) => name).join(', ')}`)
  await clearJobs(stack)
}

async function killAll(stack: Stack, services: readonly ServiceName[]): Promise<void> {
  await Promise.allSettled(namesOf(services).map(async (name) => stack.service(name).kill('SIGKILL')))
}

/** As the stack names copies. */
function namesOf(services: readonly ServiceName[]): string[] {
  return services.map((service, i) => {
    const before = services.slice(0, i).filter((other) => other === service).length
    return before === 0 ? service : `${service}${before + 1}`
  })
}
