import type { Condition } from './conditions.ts'
import { excerpt } from './excerpt.ts'
import { looksNumeric } from './operators.ts'
import type { Subject } from './subject.ts'
import { someValue } from './walk.ts'

/** Why a condition does not hold. Bounded, and safe to write as JSON. */
export interface Reason {
  /** The field, e.g. `body.amount`; for `$or`, `$nor` and `$not` above fields, their place in the filter. */
  path: string
  operator: string
  expected: unknown
  /** An excerpt of the value, or of the values a list gave; undefined when the field is absent. */
  actual: unknown
  /** What a person may not see from the two values. */
  hint?: string
  /** Under `$or`: why each alternative failed. */
  alternatives?: readonly Reason[]
}

/** Reasons in one explanation, alternatives and all. */
export const reasonsMax = 16
/** Of the values that a path through lists leads to. */
const valuesMax = 5

/** The first condition, in the filter's order, that keeps this subject from matching. Call it only when the condition does not match. */
export function reasonFor(condition: Condition, subject: Subject): Reason {
  return explain(condition, subject, { reasons: reasonsMax - 1 })
}

function explain(condition: Condition, subject: Subject, left: { reasons: number }): Reason {
  if (condition.kind === 'field') return explainField(condition, subject)
  const { operator, place, conditions } = condition
  switch (operator) {
    case '$and': {
      const failing = conditions.find((one) => !one.matches(subject))
      return failing
        ? explain(failing, subject, left)
        : { path: place, operator, expected: undefined, actual: undefined }
    }
    case '$or': {
      const alternatives: Reason[] = []
      for (const one of conditions) {
        if (left.reasons === 0) break
        left.reasons -= 1
        alternatives.push(explain(one, subject, left))
      }
      const hint = alternatives.length < conditions.length ? { hint: `${conditions.length} alternatives in all` } : {}
      return { path: place, operator, expected: 'one alternative holds', actual: 'none holds', ...hint, alternatives }
    }
    case '$nor':
    case '$not': {
      const holding = conditions.findIndex((one) => one.matches(subject))
      const where = operator === '$not' ? place : `${place}.${holding}`
      return { path: place, operator, expected: 'the condition does not hold', actual: `it holds: ${where}` }
    }
  }
}

function explainField({ field, operator, operand }: Extract<Condition, { kind: 'field' }>, subject: Subject): Reason {
  const values: unknown[] = []
  someValue(subject, field.path, (value) => {
    values.push(value)
    return values.length > valuesMax
  })
  const actual = values.length < 2 ? excerpt(values[0]) : values.slice(0, valuesMax).map((value) => excerpt(value, 1))
  if (values.length > valuesMax && Array.isArray(actual)) actual.push('… and more')
  const hint = hintFor(field.path.text, operand, values, subject)
  return {
    path: field.path.text,
    operator,
    expected: excerpt(operand),
    actual,
    ...(hint === undefined ? {} : { hint }),
  }
}

function hintFor(path: string, operand: unknown, values: readonly unknown[], subject: Subject): string | undefined {
  if (values.length === 0) {
    const parsed = /^body(?:\.|$)/.test(path) ? subject.parsedBody : undefined
    return parsed?.kind === 'unparsed' ? `the body is not parsed: ${parsed.reason}` : `the event has no ${path}`
  }
  const [value] = values
  if (typeof operand === 'number' && looksNumeric(value))
    return 'the value is a string, as all values of forms and XML are; types never coerce'
  if (looksNumeric(operand) && (typeof value === 'number' || typeof value === 'bigint'))
    return 'the value is a number, not a string; types never coerce'
  return undefined
}
