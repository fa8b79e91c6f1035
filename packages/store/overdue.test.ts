import { randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { until } from '../../test/support/poll.ts'
import { openStore } from './connect.ts'
import { pauseDestination } from './destination-state.ts'
import { overdueDelivery, overdueEvent, takesWrites } from './overdue.ts'
import { useProtocol } from './protocol.fixture.ts'
import { recordResults } from './results.ts'

const { current, accept, admitted, waiting, leased, lease, feedOut, route, result } = useProtocol()

const overdueMsMin = 5_000
const event = () => overdueEvent(current().store.durable, overdueMsMin)
const delivery = () => overdueDelivery(current().store.durable, overdueMsMin)
const change = (sql: string) => current().store.durable.query(sql)
/** Whatever is due is overdue by much. */
const longAfter = () => current().store.shiftClock(600_000)

describe('an event', () => {
  test('is overdue when nobody routed it for long after its time, and not when it is routed', async () => {
    const [first, second] = await accept(2)
    expect(await event()).toBeUndefined()
    await longAfter()
    expect(await event()).toEqual({
      what: expect.stringMatching(`^event (${first}|${second})$`),
      overdueMs: expect.closeTo(595_000, -4),
    })
    if (first && second) await route([first, second])
    expect(await event()).toBeUndefined()
  })
})

describe('a delivery is overdue', () => {
  test('when it is queued and nobody leases it', async () => {
    const [job] = await admitted(1)
    expect(await delivery()).toBeUndefined()
    await longAfter()
    expect(await delivery()).toEqual({ what: `delivery ${job?.id}`, overdueMs: expect.closeTo(590_000, -4) })
  })

  test('when its lease ran out and nobody ends it', async () => {
    const [one] = await leased()
    expect(await delivery()).toBeUndefined()
    await longAfter()
    expect(await delivery()).toMatchObject({ what: `delivery ${one?.id}` })
  })

  test('when it waits though its destination has nothing and takes anything', async () => {
    await waiting(await accept(1))
    await longAfter()
    expect(await delivery()).toMatchObject({ what: expect.stringMatching(/^delivery dlv_/) })
    await feedOut()
    // Admitted just now.
    expect(await delivery()).toBeUndefined()
  })
})

describe('a delivery is not overdue', () => {
  test('when it is delivered, or waits for its next try', async () => {
    const [done, failed] = await leased(2)
    if (!done || !failed) throw new Error('two leases')
    await recordResults(current().store.fast, [
      result(done, { kind: 'delivered', heals: false }),
      result(failed, { kind: 'retry', delayMs: 3_600_000 }),
    ])
    await longAfter()
    expect(await delivery()).toBeUndefined()
  })

  test.each([
    ['a paused destination', 'UPDATE destinations SET paused = true'],
    ['a paused connection', 'UPDATE connections SET paused = true'],
    ['an open breaker', `UPDATE destinations SET closed_until = clock() + interval '1 day'`],
    ['a deleted destination', 'UPDATE destinations SET deleted_at = clock()'],
    ['a rate limit', 'UPDATE destinations SET rate_per_hour = 1'],
    ['an earlier one of its key', 'UPDATE deliveries SET blocked = true'],
    ['an end that is its age’s', 'UPDATE deliveries SET expires_at = clock()'],
  ])('when it waits behind %s', async (_what, sql) => {
    await waiting(await accept(1))
    await longAfter()
    expect(await delivery()).toBeDefined()
    await change(sql)
    expect(await delivery()).toBeUndefined()
  })

  test('when it waits for a window that is full', async () => {
    await change('UPDATE destinations SET win = 1')
    await waiting(await accept(2))
    await longAfter()
    await feedOut()
    expect(await delivery()).toBeUndefined()
  })

  test('when it is queued and its destination was paused', async () => {
    await admitted(1)
    await longAfter()
    await pauseDestination(current().store.durable, current().destination, 'test')
    expect(await delivery()).toBeUndefined()
  })

  test('when its destination takes one at a time and has one, in whichever dispatcher', async () => {
    const jobs = await admitted(2)
    await change('UPDATE destinations SET concurrency = 1')
    await longAfter()
    expect(await delivery()).toBeDefined()
    await lease(jobs.map((job) => ({ ...job, token: randomUUID() })))
    expect(await delivery()).toBeUndefined()
  })
})

test('a Postgres that works takes writes, through the pool that is for reading too', async () => {
  expect(await takesWrites(current().store)).toBe(true)
  // What it tried with is gone.
  const { rows } = await change(`SELECT 1 FROM pg_class WHERE relname = 'trial'`)
  expect(rows).toEqual([])
})

test('one where somebody holds a lock for long takes none until it is let go', async () => {
  const { store } = current()
  const jobs = await admitted(1)
  const somebody = await store.durable.connect()
  try {
    await somebody.query('BEGIN; LOCK TABLE deliveries')
    const held = lease(jobs.map((job) => ({ ...job, token: randomUUID() })))
    expect(await takesWrites(store)).toBe(true)
    await until(async () => !(await takesWrites(store)), { what: 'the lock to be noticed' })
    await somebody.query('ROLLBACK')
    expect(await held).toHaveLength(1)
  } finally {
    somebody.release()
  }
  expect(await takesWrites(store)).toBe(true)
})

test('one that can’t be asked takes none', async () => {
  const nobody = openStore({ connectionString: 'postgres://127.0.0.1:1/nobody', applicationName: 'test' })
  expect(await takesWrites(nobody)).toBe(false)
  await nobody.close()
})
