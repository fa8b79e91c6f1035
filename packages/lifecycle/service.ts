import { setTimeout as delay } from 'node:timers/promises'
import type { Log } from '@tenterhook/telemetry/log'
import type { Component, StopOutcome } from './component.ts'
import { StartError, startComponents, unknownCause } from './component.ts'
import type { Ops, Phase } from './ops.ts'
import { opsServer } from './ops.ts'

/**
 * A service from start to exit:
 *
 *   starting ──all components started──▶ ready ──stop()──▶ draining ──drain delay──▶ components stop ──▶ stopped
 *
 * L1. `/livez` answers from before the first component starts until after the last has stopped.
 * L2. `/readyz` is green in `ready` only.
 * L3. During the drain delay everything still works; intake ends when the components stop, last started first.
 * L4. However often it is asked, a service stops once, within drain delay and grace.
 */
export type ServiceSettings = {
  readonly name: string
  /** In the order of their start: what others need comes first, intake last. */
  readonly components: readonly Component[]
  readonly log: Log
  readonly ops: Ops
  /** Aborted by the service when it begins to drain; HTTP servers and long-lived answers listen to it. */
  readonly draining: AbortController
  /** How long a service that is asked to stop goes on serving, until load balancers have seen its red readiness. */
  readonly drainDelayMs: number
  /** How long the components may take to stop, after the drain delay. */
  readonly graceMs: number
}

export type Service = {
  /** Drains and stops. Repeated calls share the first one's promise. */
  stop(): Promise<StopOutcome>
  /** The ops port's `http://host:port`. */
  opsUrl(): string
}

/** Exit codes of a service's process. */
export const exitCodes = {
  clean: 0,
  /** It could not start, did not stop cleanly, or was told twice to stop. */
  failed: 1,
  /** An exception that nobody caught (EX_SOFTWARE of sysexits.h). */
  crashed: 70,
} as const

/** Ctrl-C reaches a process from the terminal and again from npm, milliseconds apart; a person's second one is later. */
const sameSignalMs = 100

/** Starts a service in this process, without touching signals, exit or other process-wide state. */
export async function startService({
  name,
  components,
  log,
  ops,
  draining,
  drainDelayMs,
  graceMs,
  cancel,
}: ServiceSettings & {
  /** Gives up a start that is under way. */
  cancel?: AbortSignal
}): Promise<Service> {
  let phase: Phase = 'starting'
  const opsPort = opsServer({ ops, phase: () => phase })
  const running = await startComponents({
    components: [opsPort, ...components],
    log,
    graceMs,
    ...(cancel === undefined ? {} : { cancel }),
  })
  phase = 'ready'
  log.info({ event: 'service.ready', ops: opsPort.url() }, `${name} is ready`)

  async function drainAndStop(): Promise<StopOutcome> {
    phase = 'draining'
    draining.abort()
    log.info({ event: 'service.draining', drainDelayMs, graceMs })
    await delay(drainDelayMs)
    const outcome = await running.stop(graceMs)
    log.info({ event: 'service.stopped', outcome: outcome.kind })
    return outcome
  }

  let stopped: Promise<StopOutcome> | undefined
  return {
    stop: () => (stopped ??= drainAndStop()),
    opsUrl: () => opsPort.url(),
  }
}

/**
 * Runs a service as this process: starts it, stops it on SIGTERM or SIGINT, and exits with one of `exitCodes`. A second
 * signal exits at once, and so does an exception that nobody caught: what it left half done, the protocol recovers
 * as it does after a kill -9. The only place that handles signals.
 *
 * `settings` is what `describeEnvironment` made, for the start line. Resolves when the service is ready.
 */
export async function runService({
  settings,
  ...service
}: ServiceSettings & { readonly settings: Readonly<Record<string, unknown>> }): Promise<void> {
  const { log, name } = service
  const cancel = new AbortController()
  let running: Service | undefined
  let firstSignalMs: number | undefined

  async function stopAndExit(): Promise<void> {
    cancel.abort(new Error('told to stop'))
    if (running === undefined) {
      // The start gives up before its next component; one that hangs must not outlive the grace.
      setTimeout(() => process.exit(exitCodes.failed), service.graceMs)
      return
    }
    const outcome = await running.stop()
    process.exit(outcome.kind === 'clean' ? exitCodes.clean : exitCodes.failed)
  }

  function onSignal(signal: NodeJS.Signals): void {
    const nowMs = performance.now()
    if (firstSignalMs === undefined) {
      firstSignalMs = nowMs
      log.info({ event: 'service.signalled', signal })
      stopAndExit().catch(crash)
    } else if (nowMs - firstSignalMs > sameSignalMs) {
      log.fatal({ event: 'service.cut_short', signal }, 'a second signal: exiting without finishing')
      process.exit(exitCodes.failed)
    }
  }

  function crash(error: unknown): void {
    log.fatal({ event: 'service.crashed', error }, `${name} met an error that nobody caught`)
    process.exit(exitCodes.crashed)
  }

  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
  process.on('uncaughtException', crash)
  process.on('unhandledRejection', crash)

  log.info({ event: 'service.starting', node: process.version, settings }, `${name} starts`)
  try {
    running = await startService({ ...service, cancel: cancel.signal })
  } catch (error) {
    if (cancel.signal.aborted) process.exit(exitCodes.clean)
    logFailedStart(log, error)
    process.exit(exitCodes.failed)
  }
  if (cancel.signal.aborted) await stopAndExit()
}

/** A cause with a code is the machine's or the settings' fault, told in one line; any other needs its stack. */
function logFailedStart(log: Log, error: unknown): void {
  if (error instanceof StartError && error.code !== unknownCause) {
    log.fatal({ event: 'service.start_failed', component: error.stage, code: error.code }, error.message)
  } else {
    log.fatal({ event: 'service.start_failed', error })
  }
}
