import { setTimeout as delay } from 'node:timers/promises'
import type { Log } from '@tenterhook/telemetry/log'
import type { Component } from './component.ts'

/** While the work fails, it is tried this often at most and said this often. */
const failurePauseMs = 1_000
const failureLineEveryMs = 10_000

/**
 * Does `work` over and over: at once again while it says `more`, else after `everyMs` ± 20 %, so that the copies of a
 * service don't march in step. A failure is logged, rate-bounded, and never ends the loop. `stop` waits for the work
 * under way.
 */
export function loop({
  name,
  everyMs,
  work,
  log,
  random,
}: {
  name: string
  everyMs: number
  work: (signal: AbortSignal) => Promise<'more' | 'idle'>
  log: Log
  /** In [0, 1). */
  random: () => number
}): Component {
  const stopping = new AbortController()
  let running: Promise<void> = Promise.resolve()
  let failures = 0
  let saidMs = -Infinity

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      let waitMs = everyMs * (0.8 + 0.4 * random())
      try {
        if ((await work(stopping.signal)) === 'more') waitMs = 0
        failures = 0
      } catch (error) {
        failures += 1
        waitMs = Math.max(waitMs, failurePauseMs)
        const nowMs = performance.now()
        if (nowMs - saidMs > failureLineEveryMs) {
          saidMs = nowMs
          log.warn({ event: 'loop.failed', loop: name, failures, error }, `${name} failed; it goes on`)
        }
      }
      await delay(waitMs, undefined, { signal: stopping.signal }).catch(() => {})
    }
  }

  return {
    name,
    async start() {
      running = run()
    },
    async stop() {
      stopping.abort()
      await running
    },
  }
}
