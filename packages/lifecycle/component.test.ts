import { createLogger } from '@tenterhook/telemetry/log'
import { beforeEach, describe, expect, test } from 'vitest'
import type { Component } from './component.ts'
import { StartError, startComponents } from './component.ts'

let said: string[]
const log = createLogger({ service: 'test', level: 'silent' })

beforeEach(() => {
  said = []
})

/** A component that writes down what is asked of it. */
function part(name: string, overrides: Partial<Component> = {}): Component {
  return {
    name,
    start: async () => {
      said.push(`start ${name}`)
    },
    stop: async () => {
      said.push(`stop ${name}`)
    },
    ...overrides,
  }
}

describe('start and stop', () => {
  test('go in order and in reverse order, one after the other', async () => {
    const slow = (name: string) =>
      part(name, {
        start: async () => {
          said.push(`start ${name}`)
          await new Promise((resolve) => setImmediate(resolve))
          said.push(`started ${name}`)
        },
        stop: async () => {
          said.push(`stop ${name}`)
          await new Promise((resolve) => setImmediate(resolve))
          said.push(`stopped ${name}`)
        },
      })
    const running = await startComponents({ components: [slow('a'), slow('b')], log, graceMs: 1000 })
    expect(await running.stop(1000)).toEqual({ kind: 'clean' })
    expect(said).toEqual(['start a', 'started a', 'start b', 'started b', 'stop b', 'stopped b', 'stop a', 'stopped a'])
  })

  test('happen once: repeated stops share a promise', async () => {
    const running = await startComponents({ components: [part('a')], log, graceMs: 1000 })
    const first = running.stop(1000)
    expect(running.stop(1000)).toBe(first)
    await first
    expect(running.stop(1)).toBe(first)
    expect(said).toEqual(['start a', 'stop a'])
  })
})

describe('a start that fails', () => {
  test('stops what was started, not itself or what follows, and says who failed and why', async () => {
    const cause = Object.assign(new Error('connection refused'), { code: 'ECONNREFUSED' })
    const failing = part('store', { start: () => Promise.reject(cause) })
    const starting = startComponents({ components: [part('a'), part('b'), failing, part('c')], log, graceMs: 1000 })
    await expect(starting).rejects.toMatchObject({
      name: 'StartError',
      stage: 'store',
      code: 'ECONNREFUSED',
      message: 'store could not start: connection refused',
      cause,
    })
    expect(said).toEqual(['start a', 'start b', 'stop b', 'stop a'])
  })

  test('by throwing at once, without a code, is the same', async () => {
    const failing = part('store', {
      start: () => {
        throw new TypeError('undefined is not a function')
      },
    })
    await expect(startComponents({ components: [failing], log, graceMs: 1000 })).rejects.toMatchObject({
      code: 'start_failed',
      message: 'store could not start: undefined is not a function',
    })
  })

  test('because it was cancelled starts nothing more', async () => {
    const cancel = new AbortController()
    const cancelling = part('b', {
      start: async () => {
        said.push('start b')
        cancel.abort(new Error('told to stop'))
      },
    })
    const components = [part('a'), cancelling, part('c')]
    const starting = startComponents({ components, log, graceMs: 1000, cancel: cancel.signal })
    await expect(starting).rejects.toBeInstanceOf(StartError)
    expect(said).toEqual(['start a', 'start b', 'stop b', 'stop a'])
  })
})

describe('a stop that fails', () => {
  test('does not keep the others from stopping, and is told', async () => {
    const failing = part('b', { stop: () => Promise.reject(new Error('no')) })
    const throwing = part('c', {
      stop: () => {
        throw new Error('no')
      },
    })
    const components = [part('a'), failing, throwing, part('d')]
    const running = await startComponents({ components, log, graceMs: 1000 })
    expect(await running.stop(1000)).toEqual({ kind: 'unclean', components: ['c', 'b'] })
    expect(said.slice(-2)).toEqual(['stop d', 'stop a'])
  })

  test('by waiting for the signal is clean when it lets go then', async () => {
    const waiting = part('a', {
      stop: (signal) => new Promise((resolve) => signal.addEventListener('abort', () => resolve())),
    })
    const running = await startComponents({ components: [waiting], log, graceMs: 1000 })
    const started = performance.now()
    expect(await running.stop(100)).toEqual({ kind: 'clean' })
    expect(performance.now() - started).toBeGreaterThan(95)
    expect(performance.now() - started).toBeLessThan(550)
  })

  test('by never ending is left behind soon after the grace, and the next one finds its signal aborted', async () => {
    const stuck = part('stuck', { stop: () => new Promise(() => {}) })
    const next = part('next', {
      stop: async (signal) => {
        said.push(`stop next, aborted: ${signal.aborted}`)
      },
    })
    const running = await startComponents({ components: [next, stuck], log, graceMs: 1000 })
    const started = performance.now()
    expect(await running.stop(50)).toEqual({ kind: 'unclean', components: ['stuck'] })
    expect(performance.now() - started).toBeLessThan(1500)
    expect(said.at(-1)).toBe('stop next, aborted: true')
  })
})
