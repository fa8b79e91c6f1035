import { readFile } from 'node:fs/promises'
import type { DestinationId } from '@tenterhook/schemas/ids'
import { pauseDestination, resumeDestination } from '@tenterhook/store/destination-state'
import { dayMs, dayName, dayOf, partitioned, partitionName } from '@tenterhook/store/partitions'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { checkInvariants, lastSeq } from '../chaos/invariants.ts'
import { loadConfig, startLoad } from '../support/load.ts'
import { metricOf } from '../support/metrics.ts'
import { until } from '../support/poll.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { deliveriesOf, drained } from '../support/rows.ts'
import { send } from '../support/send.ts'
import { sharedStack } from '../support/stack.ts'
import type { StackConfig } from '../support/stack.ts'

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.stop())

/** Beside the load's, a source whose events go to two destinations that may take their time. */
function config(): StackConfig {
  const load = loadConfig(receiver)
  if ('file' in load) throw new Error('the load has a configuration of its own')
  const patient = { retry: { maxAge: '30d' } }
  return {
    sources: { ...load.sources, slow: { verification: { scheme: 'none' } } },
    destinations: {
      ...load.destinations,
      resumed: { url: `${receiver.url}/resumed` },
      forgotten: { url: `${receiver.url}/forgotten` },
    },
    connections: {
      ...load.connections,
      'to-resumed': { source: 'slow', destination: 'resumed', ...patient },
      'to-forgotten': { source: 'slow', destination: 'forgotten', ...patient },
    },
  }
}

const routers = ['router', 'router2']
const stack = sharedStack(() => ({
  config: config(),
  services: ['ingest', 'router', 'router', 'dispatcher'],
  env: { TENTERHOOK_RETENTION: '7d' },
}))

/** Each begins with a round of everything that it does now and then. */
async function restart(services: readonly string[], signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
  await Promise.all(services.map((name) => stack().service(name).kill(signal)))
  await Promise.all(services.map((name) => stack().service(name).start()))
}

async function destinationId(name: string): Promise<DestinationId> {
  const { rows } = await stack().store.durable.query<{ id: DestinationId }>(
    'SELECT id FROM destinations WHERE name = $1',
    [name],
  )
  if (!rows[0]) throw new Error(`there is no destination ${name}`)
  return rows[0].id
}

async function tablesOf(day: number): Promise<string[]> {
  const { rows } = await stack().store.durable.query<{ name: string }>(
    `SELECT relname AS name FROM pg_class WHERE relkind = 'r' AND relname LIKE $1`,
    [`%_${dayName(day).replaceAll('-', '')}%`],
  )
  return rows.map(({ name }) => name)
}

async function linesOf(event: string): Promise<Record<string, unknown>[]> {
  const logs = await Promise.all(routers.map((name) => readFile(stack().service(name).logPath, 'utf8')))
  return logs
    .join('\n')
    .split('\n')
    .filter((line) => line.includes(`"event":"${event}"`))
    .map((line) => JSON.parse(line) as Record<string, unknown>)
}

describe('a day past the retention', () => {
  it(
    'goes while events come in, when what it has unfinished was sent or, a day after the alert, given up',
    { timeout: 120_000 },
    async () => {
      const { store } = stack()
      const count = 10
      await pauseDestination(store.durable, await destinationId('resumed'), 'test')
      await pauseDestination(store.durable, await destinationId('forgotten'), 'test')
      for (let n = 0; n < count; n++) await send(stack(), 'slow', { body: JSON.stringify({ n }) })
      await until(async () => (await deliveriesOf(store)).length === 2 * count, { what: 'the events to be routed' })
      const day = dayOf(Date.now())
      expect(await tablesOf(day)).toHaveLength(partitioned.length)

      await stack().shiftClock(9 * dayMs)
      await restart(['ingest', ...routers])
      await until(async () => (await linesOf('retention.unfinished')).length > 0, { what: 'the alert' })
      const afterSeq = await lastSeq(store)
      const load = startLoad(stack(), { perSecond: 30 })
      await load.pass(1_000)
      await resumeDestination(store.durable, await destinationId('resumed'))
      await until(() => receiver.count('/resumed') === count, { what: 'the old events to arrive', timeoutMs: 30_000 })
      await until(() => metricOf(stack().service('router'), 'tenterhook_unfinished_past_retention'), {
        what: 'the metric to show what the day waits for',
      })

      // The next day. Somebody reads the attempts meanwhile, so that the day's deliveries go and the rest must wait.
      await stack().shiftClock(dayMs + 60_000)
      const reader = await store.durable.connect()
      await reader.query('SET idle_in_transaction_session_timeout = 0')
      await reader.query('BEGIN')
      await reader.query('LOCK TABLE ONLY attempts IN ACCESS SHARE MODE')
      await restart(routers)
      const [events, , deliveries] = partitioned.map((part) => partitionName(part, day))
      await until(async () => (await tablesOf(day)).includes(`${deliveries}_taken_out`), {
        what: 'the deliveries to be taken out',
        timeoutMs: 30_000,
        everyMs: 5,
      })
      const expired = await until(
        async () => {
          const ids = (await linesOf('retention.expired')).flatMap((line) => line['ids'])
          return ids.length === count && ids
        },
        { what: 'the log to name what was given up' },
      )
      // Killed between taking out and dropping.
      await restart(routers, 'SIGKILL')
      expect(await tablesOf(day)).toContain(events)
      await reader.query('ROLLBACK')
      reader.release()
      await restart(routers)
      await until(async () => (await tablesOf(day)).length === 0, { what: 'the day to go', timeoutMs: 30_000 })

      expect(new Set(expired).size).toBe(count)
      expect((await linesOf('retention.unfinished')).filter((line) => line['day'] === dayName(day))).toHaveLength(1)
      expect(receiver.count('/forgotten')).toBe(0)

      await load.pass(500)
      const sent = await load.stop()
      expect(load.tally()).toEqual({ 200: sent.length })
      await drained(store)
      const tally = await checkInvariants(store, {
        sent,
        received: receiver.received().filter(({ path }) => path === '/plain' || path === '/signed'),
        afterSeq,
      })
      expect(tally).toMatchObject({ events: sent.length, deliveries: 2 * sent.length, repeats: 0 })
    },
  )
})
