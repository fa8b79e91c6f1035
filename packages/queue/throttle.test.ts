import { describe, expect, it, vi } from 'vitest'
import { throttle } from './throttle.ts'

describe('throttle', () => {
  it('writes the first at once and, at the end of the window, the last with how many were left out before it', async () => {
    const lines: [string, number][] = []
    const say = throttle<string>({ windowMs: 20, write: (fact, suppressed) => lines.push([fact, suppressed]) })
    say('a')
    say('b')
    say('c')
    expect(lines).toEqual([['a', 0]])
    await vi.waitUntil(() => lines.length === 2)
    expect(lines[1]).toEqual(['c', 1])
  })

  it('writes nothing at the end of a window in which nothing was left out, and begins anew', async () => {
    const lines: [string, number][] = []
    const say = throttle<string>({ windowMs: 5, write: (fact, suppressed) => lines.push([fact, suppressed]) })
    say('a')
    await new Promise((resolve) => setTimeout(resolve, 20))
    say('b')
    expect(lines).toEqual([
      ['a', 0],
      ['b', 0],
    ])
  })
})
