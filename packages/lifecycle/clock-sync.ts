import type { Log } from '@tenterhook/telemetry/log'
import type { CorrectedClock } from './clock.ts'
import type { Component } from './component.ts'

/** Clocks drift by milliseconds a minute at worst; a step is noticed within this time. */
const syncEveryMs = 10_000
/** A reading that took longer says too little about when it was taken to refine an offset that it agrees with. */
const roundTripMsMax = 1_000
/** DESIGN §3.11: above this the operator hears of it. */
const skewAlertMs = 2_000

/**
 * Keeps a service's clock at Postgres's time, within half a round trip. A failed reading keeps the last offset, and one
 * that hangs is waited for: readings must not pile up on a Postgres that has stopped answering.
 */
export function clockSync({
  clock,
  readPostgresMs,
  log,
  onOffset,
}: {
  clock: CorrectedClock
  readPostgresMs: () => Promise<number>
  log: Log
  onOffset: (offsetMs: number) => void
}): Component {
  let timer: NodeJS.Timeout | undefined
  let alerted = false
  let reading = false

  async function sync(): Promise<void> {
    const before = clock.monotonicMs()
    const postgresMs = await readPostgresMs()
    const roundTripMs = clock.monotonicMs() - before
    const offsetMs = clock.offsetMs() + postgresMs + roundTripMs / 2 - clock.nowMs()
    const agrees = Math.abs(offsetMs - clock.offsetMs()) <= roundTripMs / 2
    if (roundTripMs > roundTripMsMax && agrees) return
    clock.setOffset(offsetMs)
    onOffset(offsetMs)
    const skewed = Math.abs(offsetMs) > skewAlertMs
    if (skewed && !alerted)
      log.warn(
        { event: 'clock.skewed', offsetMs: Math.round(offsetMs) },
        "this machine's clock is far from Postgres's; times are corrected by the difference",
      )
    alerted = skewed
  }

  return {
    name: 'clock sync',
    async start() {
      await sync()
      timer = setInterval(() => {
        if (reading) return
        reading = true
        sync()
          .catch(() => {})
          .finally(() => {
            reading = false
          })
      }, syncEveryMs)
      timer.unref()
    },
    async stop() {
      clearInterval(timer)
    },
  }
}
