/** What stands in a log line in place of a secret. */
const censored = '[redacted]'

/** Fields never written out, whatever a caller passes: secrets, and the bytes and headers of strangers. */
const secretNames = new Set([
  'apikey',
  'authorization',
  'body',
  'cookie',
  'headers',
  'key',
  'password',
  'secret',
  'secrets',
  'set-cookie',
  'signature',
  'token',
])

/** Deeper objects are left out of the line: a line is wide, not deep. */
const depthMax = 3
const causesMax = 4

/**
 * The fields as a line may show them: secret names censored at every level, errors reduced by `describeError`.
 * Returns the same object when nothing had to change, since that is every line but a few.
 */
export function censorFields(fields: Readonly<Record<string, unknown>>, depth = 1): Record<string, unknown> {
  let changed: Record<string, unknown> | undefined
  for (const name in fields) {
    const value = fields[name]
    const shown = secretNames.has(name.toLowerCase()) ? censored : showValue(value, depth)
    if (shown === value) continue
    changed ??= { ...fields }
    changed[name] = shown
  }
  return changed ?? fields
}

function showValue(value: unknown, depth: number): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (value instanceof Error) return describeError(value)
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`
  if (depth >= depthMax) return '[too deep]'
  if (Array.isArray(value)) {
    const shown = value.map((entry) => showValue(entry, depth + 1))
    return shown.some((entry, index) => entry !== value[index]) ? shown : value
  }
  return isPlainObject(value) ? censorFields(value, depth + 1) : value
}

function isPlainObject(value: object): value is Record<string, unknown> {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

/**
 * Type, message, code, stage, stack and causes of an error. Never its other fields: Postgres's `detail` quotes row
 * values and HTTP clients hang the request, with its Authorization header, on theirs.
 */
export function describeError(error: Error, causesLeft = causesMax): Record<string, unknown> {
  const { code, stage } = error as { code?: unknown; stage?: unknown }
  return {
    type: error.name,
    message: error.message,
    ...(code === undefined ? {} : { code }),
    ...(stage === undefined ? {} : { stage }),
    stack: error.stack,
    ...(error.cause instanceof Error && causesLeft > 0 ? { cause: describeError(error.cause, causesLeft - 1) } : {}),
    ...(error instanceof AggregateError && causesLeft > 0
      ? {
          errors: error.errors
            .slice(0, causesMax)
            .map((each: unknown) => (each instanceof Error ? each.message : String(each))),
        }
      : {}),
  }
}
