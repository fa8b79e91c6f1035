import { isObject } from './walk.ts'

/**
 * Whether a value of an event is exactly this operand. Types never coerce; objects are equal whatever the order of
 * their keys (unlike MongoDB: JSON has no such order). Goes as deep as the operand, which is bounded.
 */
export function equals(value: unknown, operand: unknown): boolean {
  if (Array.isArray(operand)) {
    return (
      Array.isArray(value) &&
      value.length === operand.length &&
      operand.every((element, i) => equals(value[i], element))
    )
  }
  if (isObject(operand)) {
    if (!isObject(value)) return false
    const keys = Object.keys(operand)
    return (
      Object.keys(value).length === keys.length &&
      keys.every((key) => Object.hasOwn(value, key) && equals(value[key], operand[key]))
    )
  }
  return value === operand
}

/** Below 0, 0 or above 0; undefined when the types differ. Strings by UTF-16 code units; an integer too long for a number compares by its exact value. */
export function compare(value: unknown, operand: string | number): number | undefined {
  if (typeof operand === 'string' ? typeof value !== 'string' : typeof value !== 'number' && typeof value !== 'bigint')
    return undefined
  const comparable = value as string | number | bigint
  return comparable < operand ? -1 : comparable > operand ? 1 : 0
}
