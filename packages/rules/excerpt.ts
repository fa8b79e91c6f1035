import { isObject } from './walk.ts'

const textLengthMax = 120
const entriesMax = 5
const depthMax = 2

/** A small, JSON-safe copy of a value for an explanation, whatever the value's size: explanations are stored with events. */
export function excerpt(value: unknown, depth = 0): unknown {
  if (typeof value === 'string')
    return value.length <= textLengthMax ? value : `${value.slice(0, textLengthMax)}… (${value.length} characters)`
  if (typeof value === 'bigint') return excerpt(value.toString(), depth)
  if (Array.isArray(value)) {
    if (depth === depthMax) return `a list of ${value.length}`
    const shown = value.slice(0, entriesMax).map((element) => excerpt(element, depth + 1))
    return value.length > entriesMax ? [...shown, `… (${value.length} in all)`] : shown
  }
  if (isObject(value)) {
    const keys = Object.keys(value)
    if (depth === depthMax) return `an object of ${keys.length}`
    const entries = keys
      .slice(0, entriesMax)
      .map((key) => [String(excerpt(key)), excerpt(value[key], depth + 1)] as const)
    return Object.fromEntries(
      keys.length > entriesMax ? [...entries, ['…', `${keys.length} in all`] as const] : entries,
    )
  }
  return value
}
