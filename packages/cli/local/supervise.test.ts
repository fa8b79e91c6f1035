import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'

import type { Exit, Guarded } from './guardian.ts'
import { supervise, type Death } from './supervise.ts'

/** A program that lives until the test ends it. */
function mortal() {
  const { promise: exited, resolve } = Promise.withResolvers<Exit>()
  const die = (exit: Exit = { code: 1, signal: null }) => resolve(exit)
  const guarded: Guarded = {
    pid: 1,
    exited,
    leash: process.stdout,
    stop: async () => {
      die({ code: 0, signal: null })
      return exited
    },
  }
  return { guarded, die }
}

function setUp({ failsToStart = () => false }: { failsToStart?: (lives: number) => boolean } = {}) {
  const lives: ReturnType<typeof mortal>[] = []
  const deaths: Death[] = []
  const clock = { nowMs: 0 }
  const supervised = supervise({
    name: 'p',
    start: () => {
      if (failsToStart(lives.length)) throw new Error('ENOSPC')
      const life = mortal()
      lives.push(life)
      return life.guarded
    },
    onDeath: (death) => deaths.push(death),
    monotonicMs: () => clock.nowMs,
  })
  /** Ends the newest life, and lets the pause pass. */
  const kill = async () => {
    lives.at(-1)?.die()
    await vi.advanceTimersByTimeAsync(0)
    await vi.advanceTimersByTimeAsync(deaths.at(-1)?.pauseMs ?? 0)
  }
  return { supervised, lives, deaths, clock, kill }
}

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

describe('a supervised program', () => {
  it('is started again after a pause that doubles with each death, up to half a minute', async () => {
    const { deaths, lives, kill } = setUp()
    for (let times = 0; times < 9; times += 1) await kill()
    expect(deaths.map(({ pauseMs }) => pauseMs)).toEqual([250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000])
    expect(lives.length).toBe(10)
  })

  it('is not started again before its pause is over', async () => {
    const { lives } = setUp()
    lives[0]?.die()
    await vi.advanceTimersByTimeAsync(249)
    expect(lives.length).toBe(1)
    await vi.advanceTimersByTimeAsync(1)
    expect(lives.length).toBe(2)
  })

  it('is started again after the first pause once it has lived for a minute', async () => {
    const { deaths, kill, clock } = setUp()
    await kill()
    await kill()
    clock.nowMs += 60_000
    await kill()
    expect(deaths.map(({ pauseMs }) => pauseMs)).toEqual([250, 500, 250])
  })

  it('that can not be started is tried again, and harms nobody else', async () => {
    let full = false
    const { deaths, lives, kill } = setUp({ failsToStart: () => full })
    full = true
    await kill()
    expect(deaths.map(({ how }) => how)).toEqual(['ended with code 1', 'could not be started: ENOSPC'])
    full = false
    await vi.advanceTimersByTimeAsync(500)
    expect(lives.length).toBe(2)
  })

  it('is not started again when it is stopped, nor is that a death', async () => {
    const { deaths, lives, supervised } = setUp()
    await supervised.stop()
    await vi.advanceTimersByTimeAsync(60_000)
    expect({ deaths: deaths.length, lives: lives.length }).toEqual({ deaths: 0, lives: 1 })
  })

  it('that is stopped during its pause is not started again', async () => {
    const { deaths, lives, supervised } = setUp()
    lives[0]?.die()
    await vi.advanceTimersByTimeAsync(100)
    await supervised.stop()
    await vi.advanceTimersByTimeAsync(60_000)
    expect({ deaths: deaths.length, lives: lives.length }).toEqual({ deaths: 1, lives: 1 })
  })
})
