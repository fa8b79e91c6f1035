import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Setting } from './command.ts'
import { startStack } from './stack.ts'
import type { Stack } from './stack.ts'

/**
 * The whole product, new, for the time of one measurement: what an earlier one left (rows, bloat, sockets, queues) is no
 * part of it.
 */
export async function withFreshStack<T>(setting: Setting, measure: (stack: Stack) => Promise<T>): Promise<T> {
  // Also the setting's to release: when the run is stopped, nobody comes back here. The second release does nothing.
  const resources = setting.resources.use(new AsyncDisposableStack())
  try {
    return await measure(await startFreshStack(setting, resources))
  } finally {
    await resources.disposeAsync()
  }
}

/** Its data goes with it: a few runs with a million deliveries would fill a small disk. */
export async function startFreshStack(setting: Setting, resources: AsyncDisposableStack): Promise<Stack> {
  const home = await mkdtemp(join(setting.home, 'stack-'))
  resources.defer(() => rm(home, { recursive: true, force: true, maxRetries: 3 }))
  return startStack({ ...setting, home }, resources)
}
