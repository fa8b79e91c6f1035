import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createWatchdog, stalledExitCode, watchdogLimits, type DueWork } from './watchdog.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const due: DueWork = { what: 'delivery dlv_1', overdueMs: 12_345.6 }

async function watch({
  readDue = async () => due,
  takesWrites = async () => true,
}: { readDue?: () => Promise<DueWork | undefined>; takesWrites?: () => Promise<boolean> } = {}) {
  const exits: number[] = []
  const lines: Record<string, unknown>[] = []
  const log = {
    info: () => {},
    warn: () => {},
    error: () => {},
    debug: () => {},
    child: () => log,
    fatal: (fields: Record<string, unknown>) => void lines.push(fields),
  }
  // While the machine sleeps its timers stand still, and the monotonic clock may go on.
  let asleepMs = 0
  const dog = createWatchdog({
    name: 'dispatcher',
    readDue,
    takesWrites,
    monotonicMs: () => Date.now() + asleepMs,
    log,
    exit: (code) => {
      exits.push(code)
      void dog.stop(never)
    },
  })
  await dog.start()
  return {
    dog,
    exits,
    lines,
    pass: (ms: number) => vi.advanceTimersByTimeAsync(ms),
    sleep: (ms: number) => void (asleepMs += ms),
  }
}

const never = new AbortController().signal
const limitMs = watchdogLimits.stalledMsMax
const everyMs = watchdogLimits.checkEveryMs

describe('a process with due work', () => {
  it('that makes no progress for 30 s exits with one line: what was due, since when, and what it did last', async () => {
    const { dog, exits, lines, pass } = await watch()
    dog.progressed('recorded')
    await pass(limitMs - everyMs)
    expect(exits).toEqual([])
    await pass(3 * everyMs)
    expect(exits).toEqual([stalledExitCode])
    expect(stalledExitCode).not.toBe(0)
    expect(lines).toEqual([
      {
        event: 'service.stalled',
        due: 'delivery dlv_1',
        overdueMs: 12_346,
        stalledMs: limitMs,
        lastProgress: 'recorded',
        lastProgressAgoMs: limitMs + everyMs,
      },
    ])
  })

  it('that never made any says so', async () => {
    const { exits, lines, pass } = await watch()
    await pass(limitMs + 2 * everyMs)
    expect(exits).toHaveLength(1)
    expect(lines).toMatchObject([{ lastProgress: 'none' }])
  })

  it('that makes some now and then stays', async () => {
    const { dog, exits, pass } = await watch()
    for (let seconds = 0; seconds < 600; seconds += 25) {
      await pass(25_000)
      dog.progressed('recorded')
    }
    expect(exits).toEqual([])
  })

  it('that waits for a long attempt stays until its lease is over, and no longer', async () => {
    const { dog, exits, pass } = await watch()
    dog.began('lease-1', 75_000)
    await pass(75_000)
    expect(exits).toEqual([])
    await pass(limitMs + 2 * everyMs)
    expect(exits).toHaveLength(1)
  })

  it('that begins one after another and ends none is not busy', async () => {
    const { dog, exits, pass } = await watch()
    for (let n = 0; n < 12 && exits.length === 0; n++) {
      dog.began(`lease-${n}`, 20_000)
      await pass(10_000)
    }
    expect(exits).toHaveLength(1)
  })

  it('whose attempt has ended is not busy with it', async () => {
    const { dog, exits, pass } = await watch()
    dog.began('lease-1', 75_000)
    await pass(10_000)
    dog.ended('lease-1')
    await pass(limitMs + 2 * everyMs)
    expect(exits).toHaveLength(1)
  })

  it('that was stopped for a minute is given time to do it', async () => {
    const { dog, exits, pass, sleep } = await watch()
    await pass(everyMs)
    sleep(60_000)
    await pass(2 * everyMs)
    expect(exits).toEqual([])
    dog.progressed('recorded')
    await pass(everyMs)
    expect(exits).toEqual([])
  })

  it('that is being stopped is left to stop', async () => {
    const { dog, exits, pass } = await watch()
    await pass(limitMs - everyMs)
    await dog.stop(never)
    await pass(limitMs)
    expect(exits).toEqual([])
  })
})

describe('a process stays for ever', () => {
  it('with no due work', async () => {
    const { exits, pass } = await watch({ readDue: async () => undefined })
    await pass(3_600_000)
    expect(exits).toEqual([])
  })

  it('while Postgres can’t be asked', async () => {
    const readDue = async () => {
      throw new Error('ECONNREFUSED')
    }
    const { exits, pass } = await watch({ readDue })
    await pass(3_600_000)
    expect(exits).toEqual([])
  })

  it('while Postgres says nothing', async () => {
    const { exits, pass } = await watch({ readDue: () => new Promise(() => {}) })
    await pass(3_600_000)
    expect(exits).toEqual([])
  })

  it('while Postgres takes no writes: its disk is full', async () => {
    let full = true
    const { exits, pass } = await watch({ takesWrites: async () => !full })
    await pass(3_600_000)
    expect(exits).toEqual([])
    full = false
    // From the last look at it: what can be done now gets its time.
    await pass(limitMs + 2 * everyMs)
    expect(exits).toHaveLength(1)
  })

  it('when work is due again and again, but not for long: another copy does it', async () => {
    let looks = 0
    const { exits, pass } = await watch({ readDue: async () => (looks++ % 5 === 4 ? undefined : due) })
    await pass(3_600_000)
    expect(exits).toEqual([])
  })

  it('when the outage ends with much overdue, and it takes it up', async () => {
    let down = true
    const readDue = async () => {
      if (down) throw new Error('ECONNREFUSED')
      return { what: 'event evt_1', overdueMs: 600_000 }
    }
    const { dog, exits, pass } = await watch({ readDue })
    await pass(600_000)
    down = false
    await pass(limitMs - 2 * everyMs)
    dog.progressed('routed')
    await pass(limitMs - 2 * everyMs)
    expect(exits).toEqual([])
  })
})
