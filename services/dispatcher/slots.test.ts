import fc from 'fast-check'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { DeliveryId, DestinationId } from '@tenterhook/schemas/ids'
import { lanes, type Lane } from '@tenterhook/schemas/states'
import { createSlots, laneSockets, loneShare, shareOfAll, type Hint, type Slot } from './slots.ts'

const destination = (n: number | string) => `dst_${n}` as DestinationId
let made = 0
const hint = (of: number | string, lane: Lane = 'normal'): Hint => {
  made += 1
  return {
    id: `dlv_${String(made).padStart(9, '0')}` as DeliveryId,
    generation: 1,
    destinationId: destination(of),
    lane,
  }
}

/** Slots whose hints are all leased, and whose attempts end when the test says so. */
function slotsOf(sockets: number) {
  const going: { hint: Hint; slot: Slot }[] = []
  let nowMs = 0
  const slots = createSlots({
    sockets,
    monotonicMs: () => nowMs,
    go: async (each, slot) => {
      going.push({ hint: each, slot })
      slot.leased()
    },
  })
  const used = (of: (hint: Hint) => boolean) => going.filter((one) => of(one.hint)).length
  return {
    ...slots,
    going,
    goingTo: (of: number | string) => used(({ destinationId }) => destinationId === destination(of)),
    goingIn: (lane: Lane) => used((one) => one.lane === lane),
    /** Ends the oldest attempt that there is, or that this is. */
    end(of: (hint: Hint) => boolean = () => true) {
      const at = going.findIndex((one) => of(one.hint))
      const [ended] = at < 0 ? [] : going.splice(at, 1)
      ended?.slot.give()
      return ended?.hint
    },
    passMs: (ms: number) => (nowMs += ms),
  }
}

async function isPending(promise: Promise<void>): Promise<boolean> {
  const pending = Symbol('pending')
  const turn = new Promise<symbol>((resolve) => setImmediate(resolve, pending))
  return (await Promise.race([promise, turn])) === pending
}

describe('sockets', () => {
  test.each([
    [512, { normal: 360, retry: 76, quarantine: 76 }],
    [10, { normal: 8, retry: 1, quarantine: 1 }],
    [3, { normal: 1, retry: 1, quarantine: 1 }],
  ])('of %d are split over the lanes, one at least each', (sockets, split) => {
    expect(laneSockets(sockets)).toEqual(split)
  })

  test('of one destination are a tenth of all at most, and fewer where it has a small lane to itself', () => {
    expect([shareOfAll(512), shareOfAll(3)]).toEqual([51, 1])
    expect(lanes.map((lane) => loneShare(512, lane))).toEqual([51, 15, 15])
    for (const lane of lanes) {
      const slots = slotsOf(512)
      for (let i = 0; i < 200; i++) void slots.offer(hint('one', lane))
      expect(Math.abs(slots.goingIn(lane) - loneShare(512, lane))).toBeLessThanOrEqual(1)
    }
  })

  test('of one destination are a tenth of all, over all lanes, and come free for any of them', () => {
    const slots = slotsOf(30)
    void slots.offer(hint('one'))
    void slots.offer(hint('one'))
    void slots.offer(hint('one'))
    void slots.offer(hint('one', 'retry'))
    expect([slots.goingIn('normal'), slots.goingIn('retry')]).toEqual([3, 0])
    slots.end()
    expect([slots.goingIn('normal'), slots.goingIn('retry')]).toEqual([2, 1])
  })
})

describe('a hint', () => {
  test('whose destination is at its share is parked, lets its caller go, and is the next of its destination', async () => {
    const slots = slotsOf(100)
    for (let i = 0; i < 10; i++) await slots.offer(hint('busy'))
    const [first, second] = [hint('busy'), hint('busy')]
    await slots.offer(first)
    await slots.offer(second)
    expect(slots.goingTo('busy')).toBe(10)
    expect(slots.waiting('normal')).toBe(2)
    await slots.offer(hint('other'))
    expect(slots.goingTo('other')).toBe(1)
    slots.end()
    slots.end()
    expect(slots.going.slice(-2).map((one) => one.hint)).toEqual([first, second])
  })

  test('that finds its lane full keeps its caller, until it goes or there is room and its destination has its share', async () => {
    const slots = slotsOf(10)
    for (let i = 0; i < 8; i++) await slots.offer(hint(i))
    const goes = slots.offer(hint('new'))
    const parks = slots.offer(hint(7))
    expect([await isPending(goes), await isPending(parks)]).toEqual([true, true])
    slots.end()
    await goes
    expect(await isPending(parks)).toBe(true)
    slots.end()
    await parks
    expect(slots.goingTo(7)).toBe(1)
    expect(slots.waiting('normal')).toBe(1)
  })

  test('that is brought twice waits once', async () => {
    const slots = slotsOf(10)
    const again = hint('one')
    await slots.offer(hint('one'))
    await slots.offer(again)
    await slots.offer({ ...again })
    expect(slots.waiting('normal')).toBe(1)
    expect(slots.waits(again)).toBe(true)
    await slots.offer({ ...again, generation: 2 })
    expect(slots.waiting('normal')).toBe(2)
  })

  test('that was parked for too long is taken out, sooner when its destination stands still; one that keeps its caller is not', async () => {
    const slots = slotsOf(20)
    const limits = { stuckMs: 5_000, anyMs: 8_000 }
    const [stuck, moving, late] = [hint('stuck'), hint('moving'), hint('stuck')]
    for (const name of ['stuck', 'stuck', 'moving', 'moving']) await slots.offer(hint(name))
    await slots.offer(hint('moving'))
    await slots.offer(stuck)
    await slots.offer(moving)
    slots.passMs(3_000)
    await slots.offer(late)
    expect(slots.end(({ destinationId }) => destinationId === 'dst_moving')).toBeDefined()
    slots.passMs(2_000)
    expect(slots.takeParked(limits)).toEqual([stuck])
    slots.passMs(2_999)
    expect(slots.takeParked(limits)).toEqual([])
    slots.passMs(1)
    expect(slots.takeParked(limits)).toEqual([moving, late])
    expect(slots.waiting('normal')).toBe(0)

    for (let i = 0; i < 10; i++) await slots.offer(hint(i))
    const kept = slots.offer(hint('kept'))
    slots.passMs(10_000)
    expect(slots.takeParked(limits)).toEqual([])
    expect(await isPending(kept)).toBe(true)
    slots.end()
    await kept
  })

  test('is handed over when the slots close, whoever waits for it, and none is taken after', async () => {
    const slots = slotsOf(10)
    for (let i = 0; i < 7; i++) await slots.offer(hint(i))
    const parked = hint(1)
    await slots.offer(parked)
    await slots.offer(hint(7))
    const kept = hint('kept')
    const offered = slots.offer(kept)
    expect(slots.close()).toEqual([parked, kept])
    await offered
    await slots.offer(hint('after'))
    while (slots.end()) expect(slots.goingTo('after')).toBe(0)
    await slots.drained(new AbortController().signal)
  })
})

describe('a destination that is at its own limits', () => {
  function refusing(sockets: number, grants: (hint: Hint) => number | null | 'granted') {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    onTestFinished(() => void vi.useRealTimers())
    const asked: Hint[] = []
    const leased: { hint: Hint; slot: Slot }[] = []
    const slots = createSlots({
      sockets,
      monotonicMs: () => 0,
      go: async (each, slot) => {
        asked.push(each)
        await Promise.resolve()
        const answer = grants(each)
        if (answer === 'granted') {
          leased.push({ hint: each, slot })
          slot.leased()
        } else slot.refused(answer)
      },
    })
    return { slots, asked, leased }
  }

  test('is asked for again when its rate has room, in the order of its deliveries, and holds no slot until then', async () => {
    let room = 0
    const { slots, asked, leased } = refusing(512, () => (room-- > 0 ? 'granted' : 40))
    const hints = Array.from({ length: 5 }, () => hint('limited'))
    await Promise.all(hints.map(slots.offer))
    expect(slots.free('normal')).toBe(360)
    expect(asked).toHaveLength(5)
    await vi.advanceTimersByTimeAsync(39)
    expect(asked).toHaveLength(5)
    room = 2
    await vi.advanceTimersByTimeAsync(1)
    expect(leased.map((one) => one.hint)).toEqual(hints.slice(0, 2))
    room = 3
    await vi.advanceTimersByTimeAsync(40)
    expect(leased.map((one) => one.hint)).toEqual(hints)
    expect(slots.waiting('normal')).toBe(0)
  })

  test('is asked for about as often as it grants, however many wait', async () => {
    const { slots, asked, leased } = refusing(512, () => 'granted')
    let left = 0
    const limited = refusing(512, () => (left-- > 0 ? 'granted' : 10))
    for (let i = 0; i < 200; i++) void limited.slots.offer(hint('limited'))
    await vi.advanceTimersByTimeAsync(0)
    const first = limited.asked.length
    for (let slot = 0; slot < 50; slot++) {
      left = 1
      await vi.advanceTimersByTimeAsync(10)
      for (const one of limited.leased.splice(0)) one.slot.give()
    }
    expect(limited.asked.length - first).toBeLessThanOrEqual(50 * 3)
    expect(limited.slots.waiting('normal')).toBe(150)
    expect([asked, leased, slots.waiting('normal')]).toEqual([[], [], 0])
  })

  test('by its concurrency goes on with each attempt that ends here, and within a second when one ended elsewhere', async () => {
    let most = 2
    const test = refusing(512, (): null | 'granted' => (test.leased.length < most ? 'granted' : null))
    const { slots, leased } = test
    for (let i = 0; i < 8; i++) void slots.offer(hint('limited'))
    await vi.advanceTimersByTimeAsync(0)
    expect(leased).toHaveLength(2)
    leased.shift()?.slot.give()
    await vi.advanceTimersByTimeAsync(0)
    expect(leased).toHaveLength(2)
    most = 3
    await vi.advanceTimersByTimeAsync(1_000)
    expect(leased).toHaveLength(3)
    expect(slots.isCrowded(destination('limited'))).toBe(false)
    most = 100
    await vi.advanceTimersByTimeAsync(1_000)
    expect(slots.waiting('normal')).toBe(0)
  })

  test('is not forgotten when a hint of its turn was stale', async () => {
    const stale = new Set<Hint>()
    let limited = true
    const hints = Array.from({ length: 4 }, () => hint('limited'))
    const gone: Hint[] = []
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    onTestFinished(() => void vi.useRealTimers())
    const slots = createSlots({
      sockets: 512,
      monotonicMs: () => 0,
      go: async (each, slot) => {
        await Promise.resolve()
        if (limited) return slot.refused(5)
        if (stale.has(each)) return slot.stale()
        gone.push(each)
        slot.leased()
        slot.give()
      },
    })
    for (const one of hints) void slots.offer(one)
    await vi.advanceTimersByTimeAsync(0)
    limited = false
    for (const one of hints.slice(0, 2)) stale.add(one)
    await vi.advanceTimersByTimeAsync(10)
    expect(gone).toEqual(hints.slice(2))
  })
})

describe('a crowd that hangs', () => {
  test.each([20, 100])('of %d destinations leaves slots to others, now and later', async (crowd) => {
    const slots = slotsOf(512)
    // Each wants all it can get, and never lets go.
    for (let round = 0; round < 300; round++) for (let i = 0; i < crowd; i++) void slots.offer(hint(`hangs ${i}`))
    expect(slots.free('normal')).toBeGreaterThanOrEqual(crowd === 20 ? 50 : 10)
    // A destination among the living gets through, one by one or a few at once.
    for (let i = 0; i < 1_000; i++) {
      const before = slots.going.length
      const offered = Array.from({ length: crowd === 20 ? 10 : 2 }, () => slots.offer(hint('well')))
      expect(slots.going.length - before).toBe(offered.length)
      for (let ended = 0; ended < offered.length; ended++)
        slots.end(({ destinationId }) => destinationId === 'dst_well')
    }
    const shares = Array.from({ length: crowd }, (_, i) => slots.goingTo(`hangs ${i}`))
    expect(Math.max(...shares) - Math.min(...shares)).toBeLessThanOrEqual(2)
  })
})

describe('whatever comes', () => {
  const step = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constant('offer' as const), to: fc.nat(12), lane: fc.constantFrom(...lanes) }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('end' as const), which: fc.nat(100) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('pass' as const), ms: fc.nat(3_000) }) },
  )

  test('no lane and no destination has more than its share, no slot lies idle for one that may have it, and all that wait go', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 3, max: 60 }), fc.array(step, { maxLength: 200 }), async (sockets, steps) => {
        const slots = slotsOf(sockets)
        const size = laneSockets(sockets)
        const offered = new Set<string>()
        const offers: Promise<void>[] = []
        const ended = new Set<string>()
        for (const each of steps) {
          const shareBefore = lanes.map((lane) => Math.max(1, Math.floor(slots.free(lane) / 4)))
          const before = new Map(lanes.map((lane) => [lane, slots.goingIn(lane)]))
          if (each.kind === 'offer') {
            const one = hint(each.to, each.lane)
            offered.add(one.id)
            offers.push(slots.offer(one))
            const took = slots.goingIn(each.lane) - (before.get(each.lane) ?? 0)
            const has = slots.going.filter(
              (other) => other.hint.lane === each.lane && other.hint.destinationId === one.destinationId,
            ).length
            if (took > 0) expect(has).toBeLessThanOrEqual(shareBefore[lanes.indexOf(each.lane)] ?? 0)
          } else if (each.kind === 'end') {
            const id = slots.going[each.which % Math.max(1, slots.going.length)]?.hint.id
            if (id !== undefined) ended.add(slots.end((one) => one.id === id)?.id ?? '')
          } else slots.passMs(each.ms)

          for (const lane of lanes) {
            expect(slots.goingIn(lane)).toBeLessThanOrEqual(size[lane])
            expect(slots.free(lane)).toBe(size[lane] - slots.goingIn(lane))
          }
          for (let to = 0; to <= 12; to++) {
            const has = slots.goingTo(to)
            expect(has).toBeLessThanOrEqual(shareOfAll(sockets))
            // Work-conserving: it holds nothing, waits, and its lane has room.
            if (has === 0 && slots.isCrowded(destination(to)))
              expect(lanes.some((lane) => slots.free(lane) === 0)).toBe(true)
          }
        }
        while (slots.going.length > 0) ended.add(slots.end()?.id ?? '')
        expect(ended).toEqual(offered)
        await Promise.all(offers)
        expect(lanes.map(slots.waiting)).toEqual([0, 0, 0])
        expect(lanes.map(slots.free)).toEqual(lanes.map((lane) => size[lane]))
        await slots.drained(new AbortController().signal)
      }),
      { numRuns: 300 },
    )
  })
})

test('drained resolves when the last is given back, or when the signal aborts', async () => {
  const slots = slotsOf(3)
  await slots.drained(new AbortController().signal)
  await slots.offer(hint(1))
  const drained = slots.drained(new AbortController().signal)
  slots.end()
  await drained
  await slots.offer(hint(1))
  await slots.drained(AbortSignal.timeout(10))
  expect(slots.goingTo(1)).toBe(1)
})
