import { describe, expect, it } from 'vitest'
import { until } from './poll.ts'

describe('until', () => {
  it('returns the first truthy value', async () => {
    let asked = 0
    const value = await until(() => (++asked < 3 ? undefined : `asked ${asked}`), { what: 'a third look', everyMs: 1 })
    expect(value).toBe('asked 3')
  })

  it('looks at once, before any pause', async () => {
    const from = performance.now()
    await until(() => true, { what: 'nothing', everyMs: 5_000 })
    expect(performance.now() - from).toBeLessThan(1_000)
  })

  it('keeps asking a condition that throws', async () => {
    let asked = 0
    const value = await until(
      async () => {
        if (++asked < 3) throw new Error('connection refused')
        return asked
      },
      { what: 'the server', everyMs: 1 },
    )
    expect(value).toBe(3)
  })

  it('says what was awaited and the last value when time is up', async () => {
    const waiting = until(() => ({ states: ['queued'] }).states.length === 2, { what: 'two deliveries', timeoutMs: 30 })
    await expect(waiting).rejects.toThrow('waited 30 ms for two deliveries; last value: false')
  })

  it('says what was thrown last, and keeps it as the cause', async () => {
    const fault = new Error('no such table')
    const waiting = until(() => Promise.reject<boolean>(fault), { what: 'the table', timeoutMs: 30, everyMs: 5 })
    await expect(waiting).rejects.toMatchObject({
      message: 'waited 30 ms for the table; last it threw: no such table',
      cause: fault,
    })
  })

  it('ends although the condition never settles', async () => {
    const waiting = until(() => new Promise<boolean>(() => {}), { what: 'a hung query', timeoutMs: 30 })
    await expect(waiting).rejects.toThrow('waited 30 ms for a hung query; the condition never gave an answer')
  })

  it('shows the last value that was seen when a later look hangs', async () => {
    let asked = 0
    const waiting = until(() => (++asked === 1 ? null : new Promise<null>(() => {})), {
      what: 'a row',
      timeoutMs: 50,
      everyMs: 5,
    })
    await expect(waiting).rejects.toThrow('last value: null')
  })
})
