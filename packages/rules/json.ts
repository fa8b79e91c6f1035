import { parsed, unparsed, type ParseFault, type ParseOutcome } from './parse-outcome.ts'

export const jsonDepthMax = 100
/** A body of 1 MiB can't hold more; only larger or compressed ones can reach it. */
export const jsonValuesMax = 1_000_000
/** Doubles end at 309 digits; longer literals are left to JSON.parse, which makes them Infinity. */
const integerDigitsMax = 309

/**
 * JSON.parse, bounded before it allocates anything, with one difference: an integer beyond ±(2^53 − 1) becomes a
 * `bigint`. JSON.parse would round it, and two ids that differ in their last digit would be one dedupe or order key.
 *
 * Of a repeated key the last counts. `__proto__` is a property like any other, on an object that keeps its prototype;
 * readers must ask `Object.hasOwn`.
 */
export function parseJson(text: string): ParseOutcome {
  const shape = measure(text)
  if ('code' in shape) return unparsed(shape.code, shape.reason)
  try {
    const value: unknown = shape.longDigits ? JSON.parse(text, keepInteger) : JSON.parse(text)
    return parsed(value)
  } catch {
    // V8's message quotes the body, which must not reach a log.
    return unparsed('malformed', 'the body is not valid JSON')
  }
}

/** Digits beyond which a double may round. */
const exactDigits = 15

/** One pass over the text, without a stack: depth, an upper bound of the number of values, and whether long numbers occur. */
function measure(text: string): ParseFault | { longDigits: boolean } {
  let depth = 0
  let values = 1
  let digits = 0
  let longDigits = false
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i)
    if (code >= 48 && code <= 57) {
      digits += 1
      if (digits > exactDigits) longDigits = true
      continue
    }
    digits = 0
    switch (code) {
      case 34: // "
        i = endOfString(text, i)
        break
      case 44: // ,
        values += 1
        break
      case 91: // [
      case 123: // {
        depth += 1
        values += 1
        if (depth > jsonDepthMax)
          return { code: 'too_deep', reason: `the JSON is nested deeper than ${jsonDepthMax} levels` }
        break
      case 93: // ]
      case 125: // }
        depth -= 1
        break
    }
    if (values > jsonValuesMax)
      return { code: 'too_many_values', reason: `the JSON has more than ${jsonValuesMax} values` }
  }
  return { longDigits }
}

/** The index of the closing quote, or the end of the text when there is none (JSON.parse then refuses it). */
function endOfString(text: string, opening: number): number {
  let i = opening + 1
  while (i < text.length) {
    const code = text.charCodeAt(i)
    if (code === 34) return i
    i += code === 92 ? 2 : 1
  }
  return i
}

function keepInteger(_key: string, value: unknown, context?: { source?: string }): unknown {
  if (typeof value !== 'number' || Number.isSafeInteger(value)) return value
  const source = context?.source ?? ''
  return source.length <= integerDigitsMax && /^-?\d+$/.test(source) ? BigInt(source) : value
}
