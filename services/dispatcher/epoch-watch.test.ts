import { describe, expect, test } from 'vitest'
import type { EpochReading } from '@tenterhook/queue/epoch'
import type { RedisEpoch } from '@tenterhook/store/epoch'
import { createLogger } from '@tenterhook/telemetry/log'
import { watchEpoch } from './epoch-watch.ts'

/** A Redis and a Postgres as far as epochs go. */
function world(redis: EpochReading, stored: RedisEpoch | undefined) {
  const state = { redis, stored, wakes: 0, epochs: 0, flags: 0 }
  const round = (faults: { dieBeforeKey?: boolean } = {}) =>
    watchEpoch({
      readRedis: async () => state.redis,
      writeRedis: async (key) => {
        if (faults.dieBeforeKey) throw new Error('killed')
        if (state.redis.kind === 'read') state.redis = { ...state.redis, key }
        return true
      },
      resetQueueFlags: async () => {
        state.flags += 1
        return true
      },
      readStored: async () => state.stored,
      win: async (seen, now) => {
        if (seen?.key !== state.stored?.key) return false
        state.stored = now
        return true
      },
      wake: async () => {
        state.wakes += 1
        return { events: 0, deliveries: 0 }
      },
      onEpoch: () => (state.epochs += 1),
      log: createLogger({ service: 'test', level: 'silent' }),
    })
  return { state, round }
}

describe('the epoch of Redis', () => {
  test('the first Redis is marked, and nothing is said of it', async () => {
    const { state, round } = world({ kind: 'read', runId: 'r1', key: null }, undefined)
    await round()
    expect(state).toMatchObject({ epochs: 0, stored: { runId: 'r1' } })
    expect(state.redis).toMatchObject({ key: state.stored?.key })
    await round()
    expect(state.wakes).toBe(1)
  })

  test.each([
    ['wiped', { kind: 'read', runId: 'r1', key: null } as const],
    ['restarted', { kind: 'read', runId: 'r2', key: 'k1' } as const],
    ['rewound to an old dump', { kind: 'read', runId: 'r1', key: 'k0' } as const],
  ])('a Redis that was %s is taken over once', async (_how, redis) => {
    const { state, round } = world(redis, { runId: 'r1', key: 'k1' })
    await round()
    await round()
    expect(state).toMatchObject({ wakes: 1, epochs: 1, flags: 1 })
  })

  test('a Redis that is away changes nothing', async () => {
    const { state, round } = world({ kind: 'unreachable' }, { runId: 'r1', key: 'k1' })
    await round()
    expect(state).toMatchObject({ wakes: 0, stored: { key: 'k1' } })
  })

  test('a copy that dies before it marked the Redis takes nothing over, and the next one does', async () => {
    const { state, round } = world({ kind: 'read', runId: 'r1', key: null }, { runId: 'r1', key: 'k1' })
    await expect(round({ dieBeforeKey: true })).rejects.toThrow('killed')
    await round()
    expect(state.redis).toMatchObject({ key: state.stored?.key })
    expect(state.wakes).toBe(1)
  })
})
