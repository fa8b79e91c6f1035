import type { Component } from '@tenterhook/lifecycle/component'
import { durationMs, flag } from '@tenterhook/lifecycle/variables'
import type { WatchdogLimits } from '@tenterhook/lifecycle/watchdog'

/** Read by the watchdog's entries beside this file, and by nothing in production. */
export const watchdogVariables = {
  TENTERHOOK_TEST_STALLED_MAX: durationMs,
  /** Consumers and sweeps never get anything done. */
  TENTERHOOK_TEST_HANGS: flag,
}

export function shortLimits(stalledMsMax: number): WatchdogLimits {
  return { stalledMsMax, overdueMsMin: stalledMsMax / 4, checkEveryMs: stalledMsMax / 10 }
}

/** As the service stands, but what would do its work does nothing, and is not heard of again. */
export function hanging(components: readonly Component[]): Component[] {
  return components.map((component) =>
    /^(consumer|lanes$)|sweep/.test(component.name)
      ? { name: component.name, start: async () => {}, stop: async () => {} }
      : component,
  )
}
