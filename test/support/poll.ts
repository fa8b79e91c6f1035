import { inspect } from 'node:util'

export type Patience = {
  /** What is awaited, as it would stand after "waited for": "the delivery to be dead". */
  what: string
  /** Default 10,000. */
  timeoutMs?: number
  /** Pause between two looks; default 20. */
  everyMs?: number
}

/**
 * Asks until the condition gives something truthy, and returns that. A condition that throws is asked again: a
 * refused connection is how waiting for a server looks. When the time is up, the error says what was awaited and
 * what was seen last, which is what a reader of a failed test needs first. A condition that never settles ends too.
 */
export async function until<T>(
  condition: () => T | Promise<T>,
  { what, timeoutMs = 10_000, everyMs = 20 }: Patience,
): Promise<Exclude<T, false | 0 | '' | null | undefined>> {
  const deadline = performance.now() + timeoutMs
  let last: Seen<T> = { kind: 'unsettled' }
  while (true) {
    last = await look(condition, Math.max(1, deadline - performance.now()), last)
    if (last.kind === 'value' && isTruthy(last.value)) return last.value
    if (performance.now() >= deadline) break
    await pause(Math.min(everyMs, Math.max(0, deadline - performance.now())))
  }
  throw new Error(`waited ${timeoutMs} ms for ${what}; ${describe(last)}`, {
    cause: last.kind === 'error' ? last.error : undefined,
  })
}

type Seen<T> = { kind: 'value'; value: T } | { kind: 'error'; error: unknown } | { kind: 'unsettled' }

/** One look, bounded: without the bound a hung query would outlive the timeout and show as the runner's own. */
async function look<T>(condition: () => T | Promise<T>, boundMs: number, before: Seen<T>): Promise<Seen<T>> {
  const bound = Promise.withResolvers<Seen<T>>()
  const timer = setTimeout(() => bound.resolve(before), boundMs)
  try {
    const seen = (async () => condition())().then(
      (value): Seen<T> => ({ kind: 'value', value }),
      (error: unknown): Seen<T> => ({ kind: 'error', error }),
    )
    return await Promise.race([seen, bound.promise])
  } finally {
    clearTimeout(timer)
  }
}

function isTruthy<T>(value: T): value is Exclude<T, false | 0 | '' | null | undefined> {
  return Boolean(value)
}

function describe<T>(seen: Seen<T>): string {
  if (seen.kind === 'unsettled') return 'the condition never gave an answer'
  if (seen.kind === 'error')
    return `last it threw: ${seen.error instanceof Error ? seen.error.message : inspect(seen.error)}`
  return `last value: ${inspect(seen.value, { depth: 6, breakLength: 120, maxStringLength: 2_000, maxArrayLength: 50 })}`
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
