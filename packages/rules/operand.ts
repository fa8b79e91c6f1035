import { isObject } from './walk.ts'

/** A value that a filter compares with; longer strings were not typed by a person. */
export const operandLengthMax = 4_096
export const operandListMax = 1_000
export const operandDepthMax = 16

/** What is wrong with an operand; `at` leads to the offending part of it. */
export interface OperandFault {
  message: string
  expected: string
  at?: readonly (string | number)[]
}

/**
 * Checks that a value is plain JSON a body could hold exactly. Integers beyond ±(2^53 − 1) are refused: they were
 * rounded before they got here, and would match a neighbour.
 */
export function checkValue(value: unknown): OperandFault | undefined {
  return check(value, 0, { values: operandListMax })
}

/** `left` is shared by all parts: YAML aliases can make a small document an endless value. */
function check(value: unknown, depth: number, left: { values: number }): OperandFault | undefined {
  switch (typeof value) {
    case 'boolean':
      return undefined
    case 'string':
      return value.length <= operandLengthMax
        ? undefined
        : { message: `a string longer than ${operandLengthMax} characters`, expected: 'a shorter string' }
    case 'number':
      if (!Number.isFinite(value)) return { message: `${value} is no JSON number`, expected: 'a finite number' }
      if (Number.isInteger(value) && !Number.isSafeInteger(value))
        return { message: `${value} is too large to be exact`, expected: 'a number within ±9007199254740991' }
      return undefined
    case 'object':
      if (value === null) return undefined
      if (depth === operandDepthMax)
        return { message: `nested deeper than ${operandDepthMax} levels`, expected: 'a flatter value' }
      if (Array.isArray(value)) return checkParts(value.entries(), depth, left)
      if (isPlain(value)) return checkParts(Object.entries(value), depth, left)
      break
    default:
  }
  return { message: 'not a JSON value', expected: 'a string, number, boolean, null, list or object' }
}

function checkParts(
  parts: Iterable<readonly [string | number, unknown]>,
  depth: number,
  left: { values: number },
): OperandFault | undefined {
  for (const [key, value] of parts) {
    left.values -= 1
    if (left.values < 0) return { message: `more than ${operandListMax} values`, expected: 'fewer values' }
    const fault = check(value, depth + 1, left)
    if (fault) return { ...fault, at: [key, ...(fault.at ?? [])] }
  }
  return undefined
}

/** An object as JSON and YAML make them, not a Date, a RegExp or an instance of a class. */
export function isPlain(value: unknown): value is Record<string, unknown> {
  if (!isObject(value)) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === null || prototype === Object.prototype
}
