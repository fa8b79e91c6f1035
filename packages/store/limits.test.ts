import { randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { feed } from './feed.ts'
import { lease } from './lease.ts'
import { setPace } from './pace.ts'
import { useProtocol } from './protocol.fixture.ts'
import { recordResults } from './results.ts'

const { current, accept, route, admitted, waiting, leased, feedOut, result } = useProtocol()

async function limit(columns: string): Promise<void> {
  await current().store.durable.query(`UPDATE destinations SET ${columns}`)
}

/** Feeds and leases without a pause, ends what it gets at once, and returns Postgres's times of the leases. */
async function drain(untilMs: number, limitedTo: { leases: number }): Promise<number[]> {
  const { store, destination } = current()
  const times: number[] = []
  const queued = new Map<string, { id: never; generation: number }>()
  const endMs = performance.now() + untilMs
  while (performance.now() < endMs && times.length < limitedTo.leases) {
    for (const one of (await feed(store.fast, [{ id: destination, max: 100 }], 10_000)).admitted)
      queued.set(one.id, one as never)
    const wanted = [...queued.values()].slice(0, 50).map((one) => ({ ...one, token: randomUUID() }))
    const answer = await lease(store.fast, wanted)
    for (const one of wanted) queued.delete(one.id)
    for (const one of answer.refused) queued.set(one.id, one as never)
    times.push(...answer.leased.map((one) => Date.parse(one.leasedAt)))
    if (answer.leased.length > 0)
      await recordResults(
        store.fast,
        answer.leased.map((one) => result(one, { kind: 'delivered', heals: false })),
      )
  }
  return times.toSorted((a, b) => a - b)
}

/** The most that any window of this length holds. */
function mostWithin(times: readonly number[], windowMs: number): number {
  let most = 0
  for (let from = 0, to = 0; to < times.length; to++) {
    while ((times[to] ?? 0) - (times[from] ?? 0) >= windowMs) from += 1
    most = Math.max(most, to - from + 1)
  }
  return most
}

describe('a rate limit', () => {
  test('is never exceeded in any window, and is used to 95 % under backlog', { timeout: 30_000 }, async () => {
    await waiting(await accept(400))
    await limit('rate_per_second = 40')
    const seconds = 6
    const times = await drain((seconds + 2) * 1_000, { leases: 40 * seconds })
    expect(mostWithin(times, 1_000)).toBe(40)
    // The last of n periods' worth comes at the end of the period before it.
    const lastMs = (times.at(-1) ?? 0) - (times[0] ?? 0)
    expect(times).toHaveLength(40 * seconds)
    expect(lastMs).toBeLessThan(((seconds - 1) * 1_000) / 0.95)
  })

  test('holds for copies that lease at once', async () => {
    await limit('rate_per_second = 10, rate_per_minute = 15')
    const { store } = current()
    await waiting(await accept(60))
    await limit('rate_per_second = NULL, rate_per_minute = NULL')
    const jobs = (await feedOut()).admitted
    await limit('rate_per_second = 10, rate_per_minute = 15')
    const answers = await Promise.all(
      jobs.map((job) => lease(store.fast, [{ id: job.id, generation: job.generation, token: randomUUID() }])),
    )
    expect(answers.flatMap((one) => one.leased)).toHaveLength(10)
    const refused = answers.flatMap((one) => one.refused)
    expect(refused).toHaveLength(50)
    for (const one of refused) expect(one.waitMs).toBeLessThanOrEqual(1_010)
  })

  test('sends what would wait long back to its place in line, and says when to feed again', async () => {
    await limit('rate_per_minute = 2')
    const { store, destination } = current()
    await waiting(await accept(5))
    expect((await feedOut()).admitted).toHaveLength(2)
    await limit('rate_per_minute = 1')
    const { rows } = await store.durable.query(`SELECT id, generation FROM deliveries WHERE admitted ORDER BY seq`)
    const answer = await lease(
      store.fast,
      rows.map((row) => ({ ...row, token: randomUUID() })),
    )
    expect(answer).toMatchObject({ leased: [{ id: rows[0]?.id }], refused: [] })
    const fed = await feedOut()
    expect(fed).toMatchObject({ admitted: [], later: [{ id: destination }] })
    expect(fed.later[0]?.afterMs).toBeGreaterThan(50_000)
    expect(fed.later[0]?.afterMs).toBeLessThanOrEqual(60_600)
    await store.shiftClock(58_700)
    expect((await feedOut()).admitted).toMatchObject([{ id: rows[1]?.id }])
  })

  test('is not widened by a clock that is set back', async () => {
    await limit('rate_per_second = 1')
    const { store } = current()
    await waiting(await accept(3))
    await limit('rate_per_second = NULL')
    const jobs = (await feedOut()).admitted.map((job) => ({ ...job, token: randomUUID() }))
    await limit('rate_per_second = 1')
    expect((await lease(store.fast, jobs)).leased).toHaveLength(1)
    await store.shiftClock(-10_000)
    expect((await lease(store.fast, jobs)).leased).toHaveLength(0)
  })
})

describe('concurrency', () => {
  test('is kept by copies that lease at once, and a result makes room', async () => {
    const jobs = await admitted(20)
    await limit('concurrency = 3')
    const { store, destination } = current()
    const answers = await Promise.all(jobs.map((job) => lease(store.fast, [{ ...job, token: randomUUID() }])))
    const [first, ...others] = answers.flatMap((one) => one.leased)
    expect(others).toHaveLength(2)
    const refused = answers.flatMap((one) => one.refused)
    expect(refused).toHaveLength(17)
    expect(refused[0]).toMatchObject({ destinationId: destination, waitMs: null })
    if (!first) throw new Error('nothing leased')
    await recordResults(store.fast, [result(first, { kind: 'delivered', heals: false })])
    const again = await lease(
      store.fast,
      refused.map((one) => ({ ...one, token: randomUUID() })),
    )
    expect(again.leased).toHaveLength(1)
  })

  test('is the window, twice over', async () => {
    await limit('concurrency = 3')
    await waiting(await accept(20))
    expect((await feedOut()).admitted).toHaveLength(6)
  })
})

describe('the breaker', () => {
  async function health() {
    const { rows } = await current().store.durable.query<{
      trips: number
      failures_in_row: number
      open: boolean
      failing: boolean
    }>(
      'SELECT trips, failures_in_row, closed_until > clock() AS open, failing_since IS NOT NULL AS failing FROM destinations',
    )
    return rows[0]
  }

  async function fail(count: number): Promise<void> {
    const { store } = current()
    for (const one of await leased(count))
      await recordResults(store.fast, [result(one, { kind: 'retry', delayMs: 3_600_000 })])
  }

  async function open(): Promise<void> {
    await fail(1)
    await current().store.shiftClock(10_001)
    await fail(9)
  }

  test('opens after ten failures in a row over ten seconds; a burst of failures alone does not open it', async () => {
    await fail(12)
    expect(await health()).toMatchObject({ trips: 0, failures_in_row: 12, open: false })
    await current().store.shiftClock(10_001)
    await fail(1)
    expect(await health()).toEqual({ trips: 1, failures_in_row: 13, open: true, failing: true })
  })

  test('a success in between begins the count anew', async () => {
    const { store } = current()
    await fail(9)
    await store.shiftClock(10_001)
    const [one] = await leased(1)
    if (!one) throw new Error('nothing leased')
    expect(one.failing).toBe(true)
    await recordResults(store.fast, [result(one, { kind: 'delivered', heals: one.failing })])
    expect(await health()).toEqual({ trips: 0, failures_in_row: 0, open: false, failing: false })
    await fail(9)
    expect(await health()).toMatchObject({ trips: 0, failures_in_row: 9 })
  })

  test('lets one probe through when its time is over, opens for twice as long when that fails, and closes when it succeeds', async () => {
    const { store } = current()
    await open()
    await route(await accept(5))
    expect((await feedOut()).admitted).toEqual([])
    await store.shiftClock(5_001)
    const [probe, ...more] = (await feedOut()).admitted
    expect(more).toEqual([])
    if (!probe) throw new Error('no probe')
    expect(probe.lane).toBe('quarantine')
    const [failed] = (await lease(store.fast, [{ ...probe, token: randomUUID() }])).leased
    if (!failed) throw new Error('nothing leased')
    await recordResults(store.fast, [result(failed, { kind: 'retry', delayMs: 3_600_000 })])
    expect(await health()).toMatchObject({ trips: 2, open: true })
    await store.shiftClock(9_900)
    expect(await health()).toMatchObject({ open: true })
    await store.shiftClock(200)
    expect(await health()).toMatchObject({ open: false })

    const [second] = (await feedOut()).admitted
    if (!second) throw new Error('no probe')
    const [healed] = (await lease(store.fast, [{ ...second, token: randomUUID() }])).leased
    if (!healed) throw new Error('nothing leased')
    await recordResults(store.fast, [result(healed, { kind: 'delivered', heals: healed.failing })])
    expect(await health()).toEqual({ trips: 0, failures_in_row: 0, open: false, failing: false })
    expect((await feedOut()).admitted).toHaveLength(3)
  })

  test('what was queued when it opened probes one at a time too, and what was leased does not open it again', async () => {
    const { store } = current()
    const flying = await leased(3)
    const jobs = await admitted(4)
    await open()
    for (const one of flying) await recordResults(store.fast, [result(one, { kind: 'retry', delayMs: 3_600_000 })])
    expect(await health()).toMatchObject({ trips: 1 })
    await store.shiftClock(5_001)
    const answer = await lease(
      store.fast,
      jobs.map((job) => ({ ...job, token: randomUUID() })),
    )
    expect(answer.leased).toHaveLength(1)
    expect(answer.refused).toHaveLength(3)
  })

  test('waiting behind it uses no attempts', async () => {
    const { store } = current()
    const jobs = await admitted(3)
    await open()
    for (let turn = 0; turn < 5; turn++) {
      await lease(
        store.fast,
        jobs.map((job) => ({ ...job, token: randomUUID() })),
      )
      await feedOut()
    }
    const { rows } = await store.durable.query(
      `SELECT DISTINCT state, attempt, failures FROM deliveries WHERE id = ANY($1)`,
      [jobs.map((job) => job.id)],
    )
    expect(rows).toEqual([{ state: 'pending', attempt: 0, failures: 0 }])
  })
})

describe('lanes', () => {
  test('a slow or failing destination runs in quarantine, a retry in its own lane, and the window follows', async () => {
    const { store, destination } = current()
    const [one] = await leased(1)
    if (!one) throw new Error('nothing leased')
    await recordResults(store.fast, [result(one, { kind: 'retry', delayMs: 0 })])
    expect((await feedOut()).admitted).toMatchObject([{ id: one.id, lane: 'retry' }])
    await setPace(store.fast, [{ destinationId: destination, window: 5, slowForMs: 60_000 }])
    await waiting(await accept(9))
    const fed = (await feedOut()).admitted
    expect(fed).toHaveLength(4)
    expect(new Set(fed.map(({ lane }) => lane))).toEqual(new Set(['quarantine']))
    await store.shiftClock(60_001)
    await setPace(store.fast, [{ destinationId: destination, window: 1_000, slowForMs: 0 }])
    expect((await feedOut()).admitted).toHaveLength(5)
  })
})
