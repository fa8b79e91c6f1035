import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { QueueLog } from './connection.ts'
import { createFeeder, type FeederParams, type FeedResult } from './feeder.ts'

const quiet: QueueLog = { info: () => {}, warn: () => {} }
/** Of most tests: a feed that is told ids alone and answers with what matters. */
type Feed = (batch: readonly string[]) => Promise<Partial<FeedResult>>
const nothing: FeedResult = { admitted: [], skipped: [], later: [], more: [] }
const hint = (destinationId: string) => ({
  id: `dlv ${destinationId}`,
  generation: 1,
  destinationId,
  lane: 'normal' as const,
})
const never = () => new AbortController().signal
/** Long enough for another call to begin, if one is owed. */
const turn = () => vi.advanceTimersByTimeAsync(6)

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setImmediate'] }))
afterEach(() => void vi.useRealTimers())

function feeder(feed: Feed, params: Partial<FeederParams> = {}) {
  const created = createFeeder({
    feed: async (wanted) => ({ ...nothing, ...(await feed(wanted.map(({ id }) => id))) }),
    add: async () => true,
    admissionOpen: () => true,
    countAdmitted: async () => 0,
    log: quiet,
    random: () => 0.5,
    ...params,
  })
  const requestOf = (tenant: string, ids: readonly string[]) => created.request(ids.map((id) => ({ id, tenant })))
  return { ...created, requestOf, request: (ids: readonly string[]) => requestOf('', ids) }
}

/** A feed whose calls are ended one by one by the test. */
function heldFeed() {
  const calls: {
    batch: readonly string[]
    end: (result?: Partial<FeedResult>) => void
    fail: (error: Error) => void
  }[] = []
  const feed = (batch: readonly string[]) =>
    new Promise<Partial<FeedResult>>((resolve, reject) => {
      calls.push({ batch, end: (result = nothing) => resolve(result), fail: reject })
    })
  const call = async (n: number) => {
    await vi.waitUntil(() => calls.length > n)
    return calls[n] ?? expect.unreachable()
  }
  return { feed, calls, call }
}

describe('feeder', () => {
  it('feeds all destinations requested in one turn in one call', async () => {
    const { feed, call } = heldFeed()
    const { request } = feeder(feed)
    request(['a', 'b'])
    request(['b', 'c'])
    expect((await call(0)).batch).toEqual(['a', 'b', 'c'])
  })

  it('adds what was admitted, with its lane', async () => {
    const add = vi.fn<FeederParams['add']>(async () => true)
    const admitted = [{ id: 'd1', generation: 3, destinationId: 'a', lane: 'retry' as const }]
    const { request } = feeder(async () => ({ admitted }), { add })
    request(['a'])
    await vi.waitUntil(() => add.mock.calls.length > 0)
    expect(add.mock.calls).toEqual([[admitted]])
  })

  it('adds nothing while admission is closed, and has the rows lie ready for the sweep', async () => {
    const add = vi.fn<FeederParams['add']>(async () => true)
    const throughQueue: boolean[] = []
    let open = false
    const { request } = feeder(async () => nothing, {
      add,
      admissionOpen: () => open,
      feed: async (wanted, through) => {
        throughQueue.push(through)
        return { ...nothing, admitted: wanted.map(({ id }) => hint(id)) }
      },
    })
    request(['a'])
    await vi.waitUntil(() => throughQueue.length === 1)
    await turn()
    expect(add).not.toHaveBeenCalled()
    open = true
    request(['a'])
    await vi.waitUntil(() => add.mock.calls.length === 1)
    expect(throughQueue).toEqual([false, true])
  })

  it('adds nothing when nothing was admitted', async () => {
    const add = vi.fn<FeederParams['add']>(async () => true)
    const feed = vi.fn<Feed>(async () => nothing)
    const { request, stop } = feeder(feed, { add })
    request(['a'])
    const stopped = stop(never())
    await turn()
    await stopped
    expect(feed).toHaveBeenCalledOnce()
    expect(add).not.toHaveBeenCalled()
  })

  it('feeds a destination again when it was requested while its call was under way', async () => {
    const { feed, call, calls } = heldFeed()
    const { request } = feeder(feed)
    request(['a'])
    const first = await call(0)
    request(['a'])
    request(['a'])
    first.end()
    const second = await call(1)
    expect(second.batch).toEqual(['a'])
    second.end()
    await turn()
    await turn()
    expect(calls).toHaveLength(2)
  })

  it('never has two calls under way', async () => {
    const { feed, call, calls } = heldFeed()
    const { request } = feeder(feed)
    request(['a'])
    const first = await call(0)
    request(['b'])
    await turn()
    await turn()
    expect(calls).toHaveLength(1)
    first.end()
    expect((await call(1)).batch).toEqual(['b'])
  })

  it('begins calls no closer to each other than 5 ms, without making the first wait', async () => {
    const began: number[] = []
    const { request } = feeder(async () => {
      began.push(performance.now())
      return nothing
    })
    vi.useRealTimers()
    const from = performance.now()
    request(['a'])
    await vi.waitUntil(() => began.length === 1, { interval: 1 })
    request(['b'])
    await vi.waitUntil(() => began.length === 2, { interval: 1 })
    expect((began[0] ?? 0) - from).toBeLessThan(50)
    expect((began[1] ?? 0) - (began[0] ?? 0)).toBeGreaterThan(3.5)
  })

  it('bounds a call to 64 destinations and feeds the rest in the next', async () => {
    const { feed, call } = heldFeed()
    const { request } = feeder(feed)
    request(Array.from({ length: 100 }, (_, i) => `dst${i}`))
    const first = await call(0)
    expect(first.batch).toHaveLength(64)
    first.end()
    expect((await call(1)).batch).toHaveLength(36)
  })

  it('tries a skipped destination again until its lock is free', async () => {
    let locked = 3
    const feed = vi.fn<Feed>(async (batch) => ({ admitted: [], skipped: locked-- > 0 ? batch : [] }))
    const { request, dropped } = feeder(feed)
    request(['a'])
    await vi.waitUntil(() => feed.mock.calls.length === 4)
    expect(dropped()).toBe(0)
  })

  it('leaves a destination that stays locked to the sweeper after seven calls', async () => {
    const feed = vi.fn<Feed>(async (batch) => ({ admitted: [], skipped: batch }))
    const { request, dropped } = feeder(feed)
    request(['a'])
    await vi.waitUntil(() => dropped() === 1)
    expect(feed).toHaveBeenCalledTimes(7)
  })

  it('counts the tries of a locked destination from its last request', async () => {
    let calls = 0
    const { request, dropped } = feeder(async (batch) => {
      calls += 1
      if (calls === 5) request(['a'])
      return { admitted: [], skipped: batch }
    })
    request(['a'])
    await vi.waitUntil(() => dropped() === 1)
    expect(calls).toBeGreaterThanOrEqual(5 + 6)
  })

  it('does not hold up other destinations while one is locked', async () => {
    const { feed, call } = heldFeed()
    const { request } = feeder(feed)
    request(['a', 'b'])
    ;(await call(0)).end({ admitted: [], skipped: ['a'] })
    request(['c'])
    expect((await call(1)).batch).toContain('c')
  })

  it('leaves the destinations of a failed call to the sweeper, says so, and goes on', async () => {
    const warn = vi.fn<QueueLog['warn']>()
    const fault = new Error('connection lost')
    const feed = vi.fn<Feed>().mockRejectedValueOnce(fault).mockResolvedValue(nothing)
    const { request, dropped } = feeder(feed, { log: { info: () => {}, warn } })
    request(['a', 'b'])
    await vi.waitUntil(() => dropped() === 2)
    expect(warn).toHaveBeenCalledExactlyOnceWith({ event: 'feeder.failed', error: fault, suppressed: 0 })
    request(['c'])
    await vi.waitUntil(() => feed.mock.calls.length === 2)
    expect(feed).toHaveBeenLastCalledWith(['c'])
  })

  it('gives a destination that took all it might another turn, after those that wait already', async () => {
    const { feed, call } = heldFeed()
    const { request } = feeder(feed)
    request(['backlog'])
    const first = await call(0)
    request(['b', 'c'])
    first.end({ more: ['backlog'] })
    expect((await call(1)).batch).toEqual(['b', 'c', 'backlog'])
  })

  it('feeds a destination whose rate is used up when it has room again, once, whatever is requested meanwhile', async () => {
    const { feed, call, calls } = heldFeed()
    const { request, held } = feeder(feed)
    request(['a'])
    ;(await call(0)).end({ later: [{ id: 'a', afterMs: 500 }] })
    await turn()
    request(['a'])
    request(['a'])
    expect(held()).toBe(1)
    await vi.advanceTimersByTimeAsync(480)
    expect(calls).toHaveLength(1)
    await vi.advanceTimersByTimeAsync(30)
    expect((await call(1)).batch).toEqual(['a'])
  })

  it('asks again after ten seconds at most: a limit per hour may have been raised', async () => {
    const { feed, call } = heldFeed()
    const { request } = feeder(feed)
    request(['a'])
    ;(await call(0)).end({ later: [{ id: 'a', afterMs: 3_600_000 }] })
    await vi.advanceTimersByTimeAsync(10_010)
    expect((await call(1)).batch).toEqual(['a'])
  })

  it('admits no more than there is room for, and goes on with the next count', async () => {
    const wanted: number[] = []
    let counted = 49_850
    const { request, room } = feeder(async () => nothing, {
      countAdmitted: async () => counted,
      feed: async (batch) => {
        wanted.push(...batch.map(({ max }) => max))
        const admitted = batch.flatMap(({ id, max }) => Array.from({ length: max }, () => hint(id)))
        counted += admitted.length
        return { ...nothing, admitted }
      },
    })
    request(['a', 'b', 'c', 'd'])
    await vi.advanceTimersByTimeAsync(100)
    expect(wanted).toEqual([100, 50])
    expect(room()).toBe(0)
    await vi.advanceTimersByTimeAsync(5_000)
    expect(wanted).toEqual([100, 50])
    counted = 49_999
    await vi.advanceTimersByTimeAsync(1_100)
    expect(wanted).toEqual([100, 50, 1])
  })

  it('stops at once when there is no room to feed what is left', async () => {
    const feed = vi.fn<Feed>(async () => nothing)
    const { request, stop } = feeder(feed, { countAdmitted: async () => 50_000 })
    request(['a'])
    const stopped = stop(never())
    await vi.advanceTimersByTimeAsync(1_100)
    await stopped
    expect(feed).not.toHaveBeenCalled()
  })

  it('makes a tenant with one destination wait for no more than one call, however many others another has', async () => {
    const batches: string[][] = []
    const { requestOf } = feeder(async (batch) => {
      batches.push([...batch])
      return nothing
    })
    requestOf(
      'big',
      Array.from({ length: 10_000 }, (_, i) => `dst${i}`),
    )
    await vi.waitUntil(() => batches.length === 3)
    requestOf('small', ['one'])
    await vi.waitUntil(() => batches.flat().includes('one'))
    expect(batches.length).toBeLessThanOrEqual(5)
  })

  it('holds at most 20,000 destinations and counts the rest', async () => {
    const { feed, call } = heldFeed()
    const { request, dropped } = feeder(feed)
    request(['first'])
    await call(0)
    request(Array.from({ length: 20_005 }, (_, i) => `dst${i}`))
    expect(dropped()).toBe(5)
    request(['dst0'])
    expect(dropped()).toBe(5)
  })

  it('feeds what was requested before it stops, and nothing after', async () => {
    const { feed, call, calls } = heldFeed()
    const { request, stop } = feeder(feed)
    request(['a'])
    const first = await call(0)
    request(['b'])
    const stopped = stop(never())
    request(['c'])
    first.end()
    const second = await call(1)
    expect(second.batch).toEqual(['b'])
    second.end()
    await stopped
    expect(calls).toHaveLength(2)
  })

  it('stops without waiting for a call that hangs once its time is up', async () => {
    const { feed, call, calls } = heldFeed()
    const { request, stop } = feeder(feed)
    request(['a'])
    const first = await call(0)
    request(['b'])
    await stop(AbortSignal.timeout(5))
    first.end()
    await turn()
    await turn()
    expect(calls).toHaveLength(1)
  })

  it('loses no wake-up: every request is followed by a call that began after it, locks and failures apart', async () => {
    const step = fc.oneof(
      fc.record({
        kind: fc.constant('request' as const),
        ids: fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { minLength: 1, maxLength: 3 }),
      }),
      fc.record({
        kind: fc.constant('end' as const),
        skip: fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { maxLength: 2 }),
        later: fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { maxLength: 2 }),
        more: fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { maxLength: 2 }),
      }),
      fc.record({ kind: fc.constant('turn' as const) }),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const neither = { skip: [], later: [], more: [] }
        let clock = 0
        const requestedAt = new Map<string, number>()
        const fedAt = new Map<string, number>()
        type Answers = { skip: readonly string[]; later: readonly string[]; more: readonly string[] }
        let end: ((answers: Answers) => void) | undefined
        let callsAtOnce = 0
        let free = false
        const { request, dropped } = feeder((batch) => {
          callsAtOnce += 1
          expect(callsAtOnce).toBe(1)
          expect(new Set(batch).size).toBe(batch.length)
          clock += 1
          const began = clock
          return new Promise((resolve) => {
            end = ({ skip, later, more }) => {
              end = undefined
              callsAtOnce -= 1
              const skipped = batch.filter((id) => skip.includes(id))
              const fed = batch.filter((id) => !skip.includes(id))
              const limited = fed.filter((id) => later.includes(id))
              // A call that found no room in the rate limit fed nothing.
              for (const id of fed) if (!limited.includes(id)) fedAt.set(id, began)
              resolve({
                skipped,
                later: limited.map((id) => ({ id, afterMs: 20 })),
                more: fed.filter((id) => more.includes(id) && !limited.includes(id)),
              })
            }
            if (free) end(neither)
          })
        })
        for (const each of steps) {
          if (each.kind === 'request') {
            clock += 1
            for (const id of each.ids) requestedAt.set(id, clock)
            request(each.ids)
          } else if (each.kind === 'end') end?.(each)
          else await turn()
        }
        free = true
        end?.(neither)
        const owed = () => [...requestedAt].filter(([id, at]) => (fedAt.get(id) ?? 0) <= at)
        await vi.waitUntil(() => owed().length === 0 || dropped() > 0, { interval: 1 })
        expect(dropped()).toBe(0)
      }),
      { numRuns: 200 },
    )
  })
})
