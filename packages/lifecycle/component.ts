import type { Log } from '@tenterhook/telemetry/log'

/** A part of a service that is started and stopped. */
export type Component = {
  readonly name: string
  /** Resolves when the part works; rejects when it can't. A part whose start was rejected is not stopped. */
  start(): Promise<void>
  /** Takes no new work and resolves when the old is done. When `signal` aborts, what is left is given up at once. */
  stop(signal: AbortSignal): Promise<void>
}

export type RunningComponents = {
  /** Stops all, last started first, within `graceMs`. Repeated calls share the first one's promise. */
  stop(graceMs: number): Promise<StopOutcome>
}

export type StopOutcome =
  | { readonly kind: 'clean' }
  /** The named parts failed to stop, or were cut off at the end of the grace. */
  | { readonly kind: 'unclean'; readonly components: readonly string[] }

/** The code of a StartError whose cause has none. */
export const unknownCause = 'start_failed'

/** A part that could not start. `cause` says why; `code` is the cause's when it has one. */
export class StartError extends Error {
  readonly code: string
  readonly stage: string
  constructor(component: string, cause: unknown) {
    super(`${component} could not start: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
    this.name = 'StartError'
    this.stage = component
    this.code = codeOf(cause) ?? unknownCause
  }
}

/** After the grace a part gets this long to let go; then it is left behind and the next one is stopped. */
const abandonMs = 500

/**
 * Starts the components in order. When one fails, or `cancel` aborts between two of them, those already started are
 * stopped again and the call rejects with a StartError.
 */
export async function startComponents({
  components,
  log,
  cancel,
  graceMs,
}: {
  components: readonly Component[]
  log: Log
  cancel?: AbortSignal
  graceMs: number
}): Promise<RunningComponents> {
  const started: Component[] = []
  for (const component of components) {
    try {
      cancel?.throwIfAborted()
      await component.start()
      started.push(component)
    } catch (cause) {
      await stopComponents({ components: started, log, graceMs })
      throw new StartError(component.name, cause)
    }
  }

  let stopped: Promise<StopOutcome> | undefined
  return {
    stop: (graceMs) => (stopped ??= stopComponents({ components: started, log, graceMs })),
  }
}

/** One grace for all of them: what the first one uses up, the last one lacks. No failure keeps another from stopping. */
async function stopComponents({
  components,
  log,
  graceMs,
}: {
  components: readonly Component[]
  log: Log
  graceMs: number
}): Promise<StopOutcome> {
  const grace = new AbortController()
  const timer = setTimeout(() => grace.abort(new Error(`the grace of ${graceMs} ms is over`)), graceMs)
  const failed: string[] = []
  for (const component of components.toReversed()) {
    try {
      await cutOff(component.stop(grace.signal), grace.signal)
    } catch (error) {
      failed.push(component.name)
      log.error({ event: 'service.stop_failed', component: component.name, error }, 'a part did not stop cleanly')
    }
  }
  clearTimeout(timer)
  return failed.length === 0 ? { kind: 'clean' } : { kind: 'unclean', components: failed }
}

/** The promise's end, or a rejection `abandonMs` after the signal aborted. */
async function cutOff(stopping: Promise<void>, signal: AbortSignal): Promise<void> {
  const abandoned = Promise.withResolvers<never>()
  let timer: NodeJS.Timeout | undefined
  const abandon = () => {
    timer = setTimeout(() => abandoned.reject(signal.reason), abandonMs)
  }
  if (signal.aborted) abandon()
  else signal.addEventListener('abort', abandon, { once: true })
  try {
    await Promise.race([stopping, abandoned.promise])
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', abandon)
  }
}

function codeOf(cause: unknown): string | undefined {
  const code = cause instanceof Error ? (cause as { code?: unknown }).code : undefined
  return typeof code === 'string' ? code : undefined
}
