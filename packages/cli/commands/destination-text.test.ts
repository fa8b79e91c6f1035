import { describe, expect, test } from 'vitest'
import type { Destination } from './api-shapes.ts'
import { destinationLines, healthWords } from './destination-text.ts'

const well: Destination = {
  name: 'crm',
  paused: false,
  pauseReason: null,
  health: {
    state: 'closed',
    waitsUntil: null,
    failingSince: null,
    failuresInRow: 0,
    slowUntil: null,
    window: 256,
    admitted: 3,
    waiting: 12,
    moreWaiting: false,
  },
}
const failing = { failuresInRow: 12, failingSince: '2026-01-31T09:30:00.000Z' }
const waitsUntil = '2026-01-31T09:31:20.000Z'

describe('destinations', () => {
  test('are a table by name, with what waits and what is under way', () => {
    const backlog = {
      ...well,
      name: 'accounting-2',
      health: { ...well.health, waiting: 1_000, moreWaiting: true, admitted: 256 },
    }
    expect(destinationLines([well, backlog])).toEqual([
      'destination   waiting  admitted    health',
      'accounting-2  1000+    256 of 256  well',
      'crm           12       3 of 256    well',
    ])
  })

  test('that are none are told as none', () => {
    expect(destinationLines([])).toEqual(['there is no destination'])
  })
})

describe('health in words', () => {
  test.each<[string, Partial<Pick<Destination, 'paused' | 'pauseReason'>>, Partial<Destination['health']>]>([
    ['well', {}, {}],
    ['1 failure since 2026-01-31T09:30:00.000Z', {}, { ...failing, failuresInRow: 1 }],
    ['paused: they move house', { paused: true, pauseReason: 'they move house' }, {}],
    ['paused: a\\x1b[2J', { paused: true, pauseReason: 'a\u001b[2J' }, {}],
    ['paused: 410; 12 failures in a row since 2026-01-31T09:30:00.000Z', { paused: true, pauseReason: '410' }, failing],
    ['breaker open until 09:31:20.000Z', {}, { state: 'open', waitsUntil }],
    [
      'breaker open until 09:31:20.000Z: 12 failures in a row since 2026-01-31T09:30:00.000Z',
      {},
      { state: 'open', waitsUntil, ...failing },
    ],
    [
      'breaker half open, one delivery tries it: 12 failures in a row since 2026-01-31T09:30:00.000Z',
      {},
      { state: 'half_open', ...failing },
    ],
    ['slow until 09:31:20.000Z', {}, { slowUntil: waitsUntil }],
    [
      '1 failure since 2026-01-31T09:30:00.000Z; slow until 09:31:20.000Z',
      {},
      { ...failing, failuresInRow: 1, slowUntil: waitsUntil },
    ],
  ])('%s', (words, changes, health) => {
    expect(healthWords({ ...well, ...changes, health: { ...well.health, ...health } })).toBe(words)
  })
})
