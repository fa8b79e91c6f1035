import { compare, equals } from './equality.ts'
import type { Holds, Test } from './evaluate.ts'
import { networksMax, parseNetworks } from './network.ts'
import { checkValue, operandListMax, type OperandFault } from './operand.ts'
import type { Path } from './path.ts'
import { compileWildcard } from './pattern.ts'

/**
 * `nodes` is how many questions are asked of each value, when more than one, and `steps` a pattern's: both are bounded for
 * the filter as a whole. `warning` says what the author may not expect.
 */
export type Reading =
  | { kind: 'test'; test: Test; nodes?: number; steps?: number; warning?: OperandFault }
  | ({ kind: 'fault' } & OperandFault)

/** Makes a test of an operand, or says what is wrong with it. `values` is what the field can hold. */
type Operator = (operand: unknown, values: Path['values']) => Reading

/**
 * The operators whose operand is a value. `$regex` with `$options`, `$not` and `$elemMatch`, whose operands are part of
 * the filter's structure, are in conditions.ts.
 *
 * Every comparison needs the field to be there: `$ne` and `$nin` too, and `null` equals only a null that was sent.
 */
export const valueOperators: Readonly<Record<string, Operator>> = {
  $eq: (operand, values) =>
    comparedWith(operand, values, (held) => ({ kind: 'some', holds: (value) => equals(value, held) })),
  $ne: (operand, values) =>
    comparedWith(operand, values, (held) => ({ kind: 'none', holds: (value) => equals(value, held) })),
  $gt: ordered((order) => order > 0),
  $gte: ordered((order) => order >= 0),
  $lt: ordered((order) => order < 0),
  $lte: ordered((order) => order <= 0),
  $in: (operand, values) => listedIn(operand, values, (list) => ({ kind: 'some', holds: isOneOf(list) })),
  $nin: (operand, values) => listedIn(operand, values, (list) => ({ kind: 'none', holds: isOneOf(list) })),
  $all: (operand, values) => {
    const reading = listedIn(operand, values, (list) => ({
      kind: 'each',
      holds: list.map((one) => (value) => equals(value, one)),
    }))
    return reading.kind === 'test' && Array.isArray(operand) ? { ...reading, nodes: operand.length } : reading
  },
  $exists: (operand) =>
    typeof operand === 'boolean'
      ? test({ kind: 'present', wanted: operand })
      : fault('the operand is not a boolean', 'true or false'),
  $size: (operand, values) => {
    if (values === 'text') return fault('the field is a string, never a list', 'an operator for strings')
    if (!Number.isSafeInteger(operand) || Number(operand) < 0)
      return fault('the operand is not a length', 'a whole number from 0')
    return test({ kind: 'whole', holds: (value) => Array.isArray(value) && value.length === operand })
  },
  $startsWith: textual((held) => (text) => text.startsWith(held)),
  $endsWith: textual((held) => (text) => text.endsWith(held)),
  $ieq: textual((held) => {
    const folded = held.toLowerCase()
    return (text) => text.toLowerCase() === folded
  }),
  $wildcard: (operand) => {
    if (typeof operand !== 'string' || operand === '') return notText
    const pattern = compileWildcard(operand)
    return pattern.kind === 'pattern'
      ? { ...test(ofText(pattern.test)), steps: pattern.steps }
      : fault(pattern.message, pattern.expected)
  },
  $cidr: (operand) => {
    const expected = 'a network such as "10.0.0.0/8" or "2001:db8::/32", or a list of them'
    const list: unknown[] = Array.isArray(operand) ? operand : [operand]
    if (list.length === 0 || list.length > networksMax)
      return fault(`not between 1 and ${networksMax} networks`, expected)
    const place = (i: number) => (Array.isArray(operand) ? { at: [i] } : {})
    const odd = list.findIndex((one) => typeof one !== 'string')
    if (odd !== -1) return { ...fault('a network is a string', expected), ...place(odd) }
    const networks = parseNetworks(list.map(String))
    return networks.kind === 'networks'
      ? { ...test(ofText(networks.contain)), nodes: list.length }
      : { ...fault(networks.message, expected), ...place(networks.at) }
  },
}

const notText = fault('the operand is not a string with characters in it', 'a string')

/** Types never coerce, so a number could never match what is always a string: an error when written, not silence when read. */
export function checkComparable(value: unknown, values: Path['values']): OperandFault | undefined {
  if (values === 'any' || typeof value === 'string') return checkValue(value)
  const written = typeof value === 'number' || typeof value === 'boolean' ? ` such as "${value}"` : ''
  return { message: 'the field holds strings only, and types never coerce', expected: `a string${written}` }
}

function comparedWith(operand: unknown, values: Path['values'], make: (operand: unknown) => Test): Reading {
  const wrong = checkComparable(operand, values)
  return wrong ? { kind: 'fault', ...wrong } : test(make(operand))
}

function listedIn(operand: unknown, values: Path['values'], make: (list: readonly unknown[]) => Test): Reading {
  if (!Array.isArray(operand)) return fault('the operand is not a list', 'a list of values')
  if (operand.length === 0) return fault('the list is empty', 'at least one value')
  if (operand.length > operandListMax) return fault(`the list has more than ${operandListMax} values`, 'a shorter list')
  for (const [i, value] of operand.entries()) {
    const wrong = checkComparable(value, values)
    if (wrong) return { kind: 'fault', ...wrong, at: [i, ...(wrong.at ?? [])] }
  }
  return { ...test(make(operand)), nodes: operand.filter(isStructure).length }
}

/** A set for what can be looked up, so that a long list costs no more than a short one; a scan for lists and objects. */
function isOneOf(list: readonly unknown[]): Holds {
  const scalars = new Set(list.filter((one) => !isStructure(one)))
  const structures = list.filter(isStructure)
  return (value) => scalars.has(value) || structures.some((one) => equals(value, one))
}

function isStructure(value: unknown): boolean {
  return typeof value === 'object' && value !== null
}

function ordered(holds: (order: number) => boolean): Operator {
  return (operand, values) => {
    if (typeof operand !== 'string' && typeof operand !== 'number')
      return fault('only numbers and strings have an order', 'a number or a string')
    const wrong = checkComparable(operand, values)
    if (wrong) return { kind: 'fault', ...wrong }
    const made = test({
      kind: 'some',
      holds: (value) => {
        const order = compare(value, operand)
        return order !== undefined && holds(order)
      },
    })
    const warning = {
      message: 'strings compare as text, so "9" is above "10"',
      expected: 'a number if the field is one',
    }
    return looksNumeric(operand) ? { ...made, warning } : made
  }
}

export function looksNumeric(value: unknown): value is string {
  return typeof value === 'string' && value.trim() !== '' && Number.isFinite(Number(value))
}

function textual(make: (operand: string) => (text: string) => boolean): Operator {
  return (operand) => {
    if (typeof operand !== 'string' || operand === '') return notText
    const wrong = checkValue(operand)
    return wrong ? { kind: 'fault', ...wrong } : test(ofText(make(operand)))
  }
}

export function ofText(holds: (text: string) => boolean): Test {
  return { kind: 'some', holds: (value) => typeof value === 'string' && holds(value) }
}

function test(made: Test): Extract<Reading, { kind: 'test' }> {
  return { kind: 'test', test: made }
}

function fault(message: string, expected: string): Extract<Reading, { kind: 'fault' }> {
  return { kind: 'fault', message, expected }
}
