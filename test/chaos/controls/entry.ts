/** Runs a service as its main.ts does, with what a control changes about it, and ended or stopped where it says. */
import { join } from 'node:path'
import { readEnvironment } from '@tenterhook/lifecycle/environment'
import { runService } from '@tenterhook/lifecycle/service'
import type { CrashPoint, Probe } from '@tenterhook/schemas/probe'
import { changeModules, withoutComponents } from './changes.ts'
import type { ServiceChange } from './changes.ts'

/** What the harness passes in TENTERHOOK_TEST_CONTROL, as JSON; nothing in production reads that. */
export type Controlled = {
  service: 'ingest' | 'router' | 'dispatcher'
  change: ServiceChange
  at?: Moment
}

/** Sends itself a signal when it passes the point in this turn, the first by default. */
export type Moment = { point: CrashPoint; signal: 'SIGKILL' | 'SIGSTOP'; turn?: number }

const stopReachesMs = 20

const controlled = JSON.parse(process.env['TENTERHOOK_TEST_CONTROL'] ?? '') as Controlled
const { texts = [], without } = controlled.change
// Before anything of the service is loaded, which is why all of it is imported below.
const checkLoaded = changeModules(join(import.meta.dirname, '../../..'), texts)
const service = await open(controlled.service, probeOf(controlled.at))
checkLoaded()
const components = without === undefined ? service.components : withoutComponents(service.components, without)
await runService({ ...service, components })

async function open(name: Controlled['service'], probe: Probe) {
  switch (name) {
    case 'ingest': {
      const { ingestVariables } = await import('@tenterhook/ingest/config.ts')
      const { ingestService } = await import('@tenterhook/ingest/ingest.ts')
      return ingestService(readEnvironment(ingestVariables), probe)
    }
    case 'router': {
      const { routerVariables } = await import('@tenterhook/router/config.ts')
      const { routerService } = await import('@tenterhook/router/router.ts')
      return routerService(readEnvironment(routerVariables), probe)
    }
    case 'dispatcher': {
      const { dispatcherVariables } = await import('@tenterhook/dispatcher/config.ts')
      const { dispatcherService } = await import('@tenterhook/dispatcher/dispatcher.ts')
      return dispatcherService(readEnvironment(dispatcherVariables), probe)
    }
  }
}

function probeOf(at: Moment | undefined): Probe {
  let passed = 0
  return (point) => {
    if (point !== at?.point) return
    passed += 1
    if (passed !== (at.turn ?? 1)) return
    process.kill(process.pid, at.signal)
    // A stop reaches the process's threads one after the other; this one is not to go on before it is stopped.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, stopReachesMs)
  }
}
