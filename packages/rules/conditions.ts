import { compileTest, type Field, type Matches } from './evaluate.ts'
import { isPlain, type OperandFault } from './operand.ts'
import { ofText, valueOperators, type Reading } from './operators.ts'
import { canExtend, eventPath, extendPath, type Path } from './path.ts'
import { compileRegex, filterStepsMax } from './pattern.ts'
import { suggest } from './suggestion.ts'
import { isObject, someValue } from './walk.ts'

export const filterDepthMax = 16
/**
 * Fields, operators and alternatives of a filter together, and whatever else is asked of each value one by one. A match
 * costs at most this times the values of the body, plus the patterns' steps times its length: measured at 2 s and 5 s for
 * the largest filters and hostile bodies of 1 MiB, and at microseconds for ordinary ones.
 */
export const filterNodesMax = 500
/** A filter with more mistakes than this is not helped by a longer list. */
export const filterErrorsMax = 20

/** A mistake in a filter, or a warning about it. */
export interface FilterError {
  /** For people: `filter.body.amount.$gtt`. */
  path: string
  /** The keys from the filter's root to the mistake, so that a document's line can be found. */
  at: readonly (string | number)[]
  message: string
  expected: string
}

/** A filter's structure, kept for explanations, with the closure that decides. */
export type Condition =
  | { kind: 'group'; operator: Group; place: string; conditions: readonly Condition[]; matches: Matches }
  | { kind: 'field'; field: Field; operator: string; operand: unknown; matches: Matches }

type Group = '$and' | '$or' | '$nor' | '$not'
type Place = readonly (string | number)[]

const groupOperators: readonly string[] = ['$and', '$or', '$nor', '$not']
const fieldOperators: readonly string[] = [...Object.keys(valueOperators), '$regex', '$options', '$not', '$elemMatch']

/** Where an element of a list begins, for the fields inside `$elemMatch`. Apart from `eventPath`, whose keys must be roots. */
const elementPath: Path = { text: '', values: 'any', segments: [] }

export interface ReadFilter {
  /** Meaningless when there are errors. */
  condition: Condition
  errors: readonly FilterError[]
  warnings: readonly FilterError[]
}

export function readFilter(filter: unknown): ReadFilter {
  const reader = new FilterReader()
  const condition =
    isPlain(filter) && Object.keys(filter).length === 0
      ? group('$and', [], [])
      : reader.document(filter, [], eventPath, 0)
  return { condition, errors: reader.errors, warnings: reader.warnings }
}

/** Reads one filter, collecting all its mistakes in one go. After a mistake the conditions it returns are placeholders. */
class FilterReader {
  readonly errors: FilterError[] = []
  readonly warnings: FilterError[] = []
  #nodes = 0
  #steps = 0

  /** `{ field: …, $or: […] }`: a whole filter, a part of one, or the query form of `$elemMatch`. */
  document(value: unknown, at: Place, base: Path, depth: number): Condition {
    if (!isPlain(value)) return this.#fault(at, 'not a filter', 'an object with fields or logical operators')
    if (depth > filterDepthMax)
      return this.#fault(at, `nested deeper than ${filterDepthMax} levels`, 'a flatter filter')
    const keys = Object.keys(value)
    if (keys.length === 0) return this.#fault(at, 'an empty condition', 'at least one field or operator')
    return this.#every(keys, at, (key, place) =>
      key.startsWith('$')
        ? this.#group(key, value[key], place, base, depth)
        : this.#path(base, key, value[key], place, depth),
    )
  }

  #group(operator: string, operand: unknown, at: Place, base: Path, depth: number): Condition {
    if (operator === '$not') return group('$not', at, [this.document(operand, at, base, depth + 1)])
    if (operator !== '$and' && operator !== '$or' && operator !== '$nor') {
      if (fieldOperators.includes(operator))
        return this.#fault(at, `"${operator}" needs a field above it`, `{ "body.amount": { "${operator}": … } }`)
      return this.#unknown(operator, at, groupOperators)
    }
    if (!Array.isArray(operand)) return this.#fault(at, 'the operand is not a list', 'a list of conditions')
    if (operand.length === 0) return this.#fault(at, 'the list is empty', 'at least one condition')
    const conditions: Condition[] = []
    for (const [i, part] of operand.entries()) {
      if (!this.#count(at)) break
      conditions.push(this.document(part, [...at, i], base, depth + 1))
    }
    return group(operator, at, conditions)
  }

  #path(base: Path, key: string, value: unknown, at: Place, depth: number): Condition {
    const result = extendPath(base, key)
    return result.kind === 'path'
      ? this.#field(result.path, value, at, depth + 1)
      : this.#fault(at, result.message, result.expected)
  }

  /** What stands below a field: a value to equal, operators, or further fields. */
  #field(path: Path, value: unknown, at: Place, depth: number): Condition {
    if (depth > filterDepthMax)
      return this.#fault(at, `nested deeper than ${filterDepthMax} levels`, 'a flatter filter')
    const isWhole = path.values === 'texts' && canExtend(path)
    if (!isPlain(value)) {
      if (isWhole) return this.#fault(at, `"${path.text}" holds named values`, `{ "${path.text}": { "name": … } }`)
      return this.#test({ path, looksIntoLists: true }, '$eq', value, at)
    }
    const keys = Object.keys(value)
    const operators = keys.filter((key) => key.startsWith('$'))
    if (keys.length === 0)
      return this.#fault(at, 'an empty condition', 'a value, operators or fields; {"$eq": {}} for an empty object')
    if (operators.length === 0)
      return this.#every(keys, at, (key, place) => this.#path(path, key, value[key], place, depth))
    if (operators.length < keys.length)
      return this.#fault(
        at,
        'operators and fields are mixed',
        'only operators or only fields; a field that begins with $ is written \\$',
      )
    if (isWhole) return this.#fault(at, `"${path.text}" holds named values`, `{ "${path.text}": { "name": { … } } }`)
    return this.#operators({ path, looksIntoLists: true }, value, at, depth)
  }

  #operators(field: Field, value: Record<string, unknown>, at: Place, depth: number): Condition {
    return this.#every(Object.keys(value), at, (operator, place) => {
      const operand = value[operator]
      switch (operator) {
        case '$not':
          return this.#not(field, operand, place, depth + 1)
        case '$elemMatch':
          return this.#elemMatch(field, operand, place, depth + 1)
        case '$regex':
          return this.#regex(field, operand, value.$options, place)
        case '$options':
          if (!Object.hasOwn(value, '$regex'))
            return this.#fault(place, '"$options" stands alone', '"$regex" beside it')
          return this.#placeholder(place)
        default:
          return this.#test(field, operator, operand, place)
      }
    })
  }

  #test(field: Field, operator: string, operand: unknown, at: Place): Condition {
    const read = Object.hasOwn(valueOperators, operator) ? valueOperators[operator] : undefined
    if (read) return this.#condition(field, operator, operand, read(operand, field.path.values), at)
    if (groupOperators.includes(operator))
      return this.#fault(
        at,
        `"${operator}" stands above fields, not below one`,
        `{ "${operator}": [ { "${field.path.text}": … }, … ] }`,
      )
    return this.#unknown(operator, at, fieldOperators)
  }

  #condition(field: Field, operator: string, operand: unknown, reading: Reading, at: Place): Condition {
    if (reading.kind === 'fault') return this.#fault([...at, ...(reading.at ?? [])], reading.message, reading.expected)
    this.#steps += reading.steps ?? 0
    if (reading.nodes !== undefined && !this.#count(at, reading.nodes)) return this.#placeholder(at)
    if (this.#steps > filterStepsMax)
      return this.#fault(
        at,
        `the patterns of the filter have more than ${filterStepsMax} steps together`,
        'fewer or smaller patterns',
      )
    if (reading.warning) report(this.warnings, at, reading.warning)
    return { kind: 'field', field, operator, operand, matches: compileTest(field, reading.test) }
  }

  #regex(field: Field, source: unknown, options: unknown, at: Place): Condition {
    if (typeof source !== 'string' || source === '')
      return this.#fault(at, 'the operand is not a pattern', 'a string in RE2 syntax')
    if (options !== undefined && typeof options !== 'string')
      return this.#fault([...at.slice(0, -1), '$options'], 'the operand is not a string', 'any of i, m and s')
    const pattern = compileRegex(source, options ?? '')
    const reading: Reading =
      pattern.kind === 'pattern'
        ? { kind: 'test', test: ofText(pattern.test), steps: pattern.steps }
        : { kind: 'fault', message: pattern.message, expected: pattern.expected }
    return this.#condition(field, '$regex', options === undefined ? source : `(?${options})${source}`, reading, at)
  }

  /** The exact complement of the operators below it, so an absent field matches where they would not. */
  #not(field: Field, operand: unknown, at: Place, depth: number): Condition {
    if (depth > filterDepthMax)
      return this.#fault(at, `nested deeper than ${filterDepthMax} levels`, 'a flatter filter')
    if (!isOperators(operand))
      return this.#fault(at, 'the operand has no operators', '{ "$not": { "$regex": … } }; "$ne" for a value')
    const inner = this.#operators(field, operand, at, depth)
    return { kind: 'field', field, operator: '$not', operand, matches: (scope) => !inner.matches(scope) }
  }

  /** Conditions that one element of a list must meet together: operators on the element, or fields of it. */
  #elemMatch(field: Field, operand: unknown, at: Place, depth: number): Condition {
    if (field.path.values === 'text')
      return this.#fault(at, 'the field is a string, never a list', 'an operator for strings')
    if (depth > filterDepthMax)
      return this.#fault(at, `nested deeper than ${filterDepthMax} levels`, 'a flatter filter')
    const onElement = isOperators(operand) && !Object.keys(operand).some((key) => isGroup(key, operand[key]))
    if (field.path.values !== 'any' && !onElement)
      return this.#fault(at, 'the values are strings, without fields', '{ "$elemMatch": { "$regex": … } }')
    const inner = onElement
      ? this.#operators(
          { path: { ...elementPath, values: field.path.values }, looksIntoLists: false },
          operand,
          at,
          depth,
        )
      : this.document(operand, at, elementPath, depth)
    const holds = onElement ? inner.matches : (element: unknown) => isObject(element) && inner.matches(element)
    const matches: Matches = (scope) =>
      someValue(scope, field.path, (value) => Array.isArray(value) && value.some((element) => holds(element)))
    return { kind: 'field', field, operator: '$elemMatch', operand, matches }
  }

  #every(keys: readonly string[], at: Place, read: (key: string, at: Place) => Condition): Condition {
    const conditions: Condition[] = []
    for (const key of keys) {
      const place = [...at, key]
      if (!this.#count(place)) break
      conditions.push(read(key, place))
    }
    return group('$and', at, conditions)
  }

  /** False once there are too many nodes; said once. */
  #count(at: Place, nodes = 1): boolean {
    const before = this.#nodes
    this.#nodes += nodes
    if (this.#nodes <= filterNodesMax) return true
    if (before <= filterNodesMax)
      this.#fault(
        at,
        `more than ${filterNodesMax} fields, operators and alternatives`,
        'a smaller filter; $in for a list of values',
      )
    return false
  }

  #unknown(operator: string, at: Place, names: readonly string[]): Condition {
    return this.#fault(at, `unknown operator "${operator}"${suggest(operator, names)}`, `one of ${names.join(', ')}`)
  }

  #fault(at: Place, message: string, expected: string): Condition {
    report(this.errors, at, { message, expected })
    return this.#placeholder(at)
  }

  #placeholder(at: Place): Condition {
    return group('$and', at, [])
  }
}

function report(list: FilterError[], at: Place, { message, expected }: OperandFault): void {
  if (list.length < filterErrorsMax) list.push({ path: placeText(at), at, message, expected })
}

function placeText(at: Place): string {
  return ['filter', ...at].join('.')
}

function group(operator: Group, at: Place, conditions: readonly Condition[]): Condition {
  const [only] = conditions
  if (operator === '$and' && only && conditions.length === 1) return only
  const each = conditions.map((condition) => condition.matches)
  const matches: Record<Group, Matches> = {
    $and: (scope) => each.every((one) => one(scope)),
    $or: (scope) => each.some((one) => one(scope)),
    $nor: (scope) => !each.some((one) => one(scope)),
    $not: (scope) => !each.some((one) => one(scope)),
  }
  return { kind: 'group', operator, place: placeText(at), conditions, matches: matches[operator] }
}

/** An object whose keys are all operators. */
function isOperators(value: unknown): value is Record<string, unknown> {
  return isPlain(value) && Object.keys(value).length > 0 && Object.keys(value).every((key) => key.startsWith('$'))
}

/** Of the operators in an `$elemMatch`, those that take whole conditions; `$not` is both, and tells by its operand. */
function isGroup(operator: string, operand: unknown): boolean {
  return operator === '$not' ? !isOperators(operand) : groupOperators.includes(operator)
}
