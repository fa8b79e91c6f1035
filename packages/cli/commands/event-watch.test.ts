import { describe, expect, test } from 'vitest'
import { newId } from '@tenterhook/schemas/ids'
import type { DeliverySummary, EventSummary } from './api-shapes.ts'
import { createEventWatch, type EventWatch, type News } from './event-watch.ts'

const startMs = Date.parse('2026-01-31T09:30:00Z')

function event(atMs: number, state = 'routed'): EventSummary {
  const id = newId('evt', startMs + atMs)
  return {
    id,
    source: { name: 'desk' },
    type: null,
    state,
    bodyBytes: 2,
    receivedAt: new Date(startMs + atMs).toISOString(),
  }
}

function delivery({ id: eventId }: EventSummary, state: string, failures = 0): DeliverySummary {
  return {
    id: eventId.replace('evt', 'dlv'),
    eventId,
    connection: { name: 'a-to-b' },
    destination: { name: 'b' },
    state,
    attempts: failures,
    failures,
    dueAt: null,
    deadReason: null,
    finishedAt: null,
    replayOf: null,
    held: false,
    heldBy: null,
  }
}

const begin = () => createEventWatch({ newestMs: startMs, oldestId: '' })

function look(
  watch: EventWatch,
  events: EventSummary[],
  rows: DeliverySummary[],
  nowMs: number,
  complete = true,
): string[] {
  watch.meet(events, nowMs)
  return watch.news({ rows, complete }, nowMs).map(told)
}

function told(news: News): string {
  if (news.kind === 'delivery') return `delivery ${news.delivery.state}`
  return `event ${news.deliveries?.map(({ state }) => state).join(',') ?? 'unknown'}`
}

describe('an event', () => {
  test('is told once, when its deliveries were tried', () => {
    const watch = begin()
    const one = event(1)
    expect(look(watch, [one], [delivery(one, 'leased')], 0)).toEqual([])
    expect(look(watch, [one], [delivery(one, 'delivered')], 500)).toEqual(['event delivered'])
    expect(look(watch, [one], [delivery(one, 'delivered')], 1_000)).toEqual([])
  })

  test('that no connection matched is told at once; one that is not routed yet is waited for', () => {
    const watch = begin()
    const one = event(1, 'accepted')
    expect(look(watch, [one], [], 0)).toEqual([])
    expect(look(watch, [{ ...one, state: 'routed' }], [], 500)).toEqual(['event '])
  })

  test('is told as it stands when nothing happens to it for two seconds', () => {
    const watch = begin()
    const one = event(1)
    expect(look(watch, [one], [delivery(one, 'pending')], 0)).toEqual([])
    expect(look(watch, [], [delivery(one, 'pending')], 1_999)).toEqual([])
    expect(look(watch, [], [delivery(one, 'pending')], 2_000)).toEqual(['event pending'])
  })

  test('told unfinished is followed to its delivery’s end, once, for a minute', () => {
    const watch = begin()
    const [one, two] = [event(1), event(2)]
    expect(look(watch, [one, two], [delivery(one, 'retrying', 1), delivery(two, 'retrying', 1)], 0)).toEqual([
      'event retrying',
      'event retrying',
    ])
    expect(look(watch, [], [delivery(one, 'retrying', 2)], 5_000)).toEqual([])
    expect(look(watch, [], [delivery(one, 'delivered', 2)], 6_000)).toEqual(['delivery delivered'])
    expect(look(watch, [], [delivery(one, 'delivered', 2)], 6_500)).toEqual([])
    expect(watch.deliveriesSinceMs()).toBe(startMs + 2)
    expect(look(watch, [], [], 60_001)).toEqual([])
    expect(look(watch, [], [delivery(two, 'dead', 9)], 61_000)).toEqual([])
    expect(watch.deliveriesSinceMs()).toBeUndefined()
  })

  test('whose deliveries may not all have been seen is not told as matching nothing', () => {
    const watch = begin()
    expect(look(watch, [event(1)], [], 0, false)).toEqual([])
    expect(look(watch, [], [], 2_000, false)).toEqual(['event unknown'])
  })

  test('that became visible late is told; history is not', () => {
    const [history, first, late, newest] = [event(-60_000), event(0), event(5_000), event(12_000)]
    const watch = createEventWatch({ newestMs: startMs, oldestId: first.id })
    expect(look(watch, [first, history], [], 0)).toEqual(['event '])
    expect(look(watch, [newest], [], 500)).toEqual(['event '])
    expect(watch.eventsSinceMs()).toBe(startMs + 2_000)
    expect(look(watch, [newest, late], [], 1_000)).toEqual(['event '])
  })
})

test('what is asked for stays near the newest, and reaches back to what is waited for', () => {
  const watch = begin()
  expect(watch.eventsSinceMs()).toBe(startMs - 10_000)
  const [slow, quick] = [event(1, 'accepted'), event(30_000)]
  look(watch, [slow], [], 0)
  look(watch, [quick], [], 100)
  expect(watch.eventsSinceMs()).toBe(startMs + 1)
  look(watch, [], [], 2_000)
  expect(watch.eventsSinceMs()).toBe(startMs + 20_000)
  expect(createEventWatch({ newestMs: 0, oldestId: '' }).eventsSinceMs()).toBe(0)
})

test('above two thousand waiting events the news does not wait', () => {
  const watch = begin()
  const many = Array.from({ length: 2_001 }, (_, index) => event(index, 'accepted'))
  const news = look(watch, many, [], 0)
  expect(news).toHaveLength(1)
})
