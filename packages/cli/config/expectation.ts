import { suggest } from '@tenterhook/rules/suggestion'
import { z } from 'zod'
import { type FileProblem, type Place, placeText } from './document.ts'

/** What is wrong at which place, in our words: every text names what was expected. */
export interface Mistake {
  place: Place
  message: string
}

/** The issues that a schema found in a value, its input reported (`reportInput`), as mistakes. */
export function mistakesOf(error: z.ZodError, schema: z.ZodType, value: unknown): Mistake[] {
  return issuesMeant(error.issues).flatMap((issue) => {
    if (issue.code !== 'unrecognized_keys') return [{ place: issue.path, message: expectation(issue) }]
    const known = knownKeys(schema, value, issue.path)
    return issue.keys.map((key) => ({ place: [...issue.path, key], message: unknownKey(key, known) }))
  })
}

/** Of a map that stands where other forms may stand too: what is wrong inside it, each thing at its own place. */
function issuesMeant(issues: readonly z.core.$ZodIssue[]): z.core.$ZodIssue[] {
  return issues.flatMap((issue) => {
    if (issue.code !== 'invalid_union' || typeName(issue.input) !== 'a map') return [issue]
    const maps = issue.errors.filter(
      (form) => form.length > 0 && !form.some(({ code, path }) => code === 'invalid_type' && path.length === 0),
    )
    const [form] = maps
    if (!form || maps.length > 1) return [issue]
    return issuesMeant(form).map((inside) => ({ ...inside, path: [...issue.path, ...inside.path] }))
  })
}

export function unknownKey(key: string, known: readonly string[]): string {
  const suggestion = suggest(key, known)
  return `unknown key ${JSON.stringify(key)}${suggestion || `; expected ${known.length > 0 ? known.join(', ') : 'no keys here'}`}`
}

export function problemAt(lineOf: (place: Place) => number | undefined, place: Place, message: string): FileProblem {
  return { line: lineOf(place), path: placeText(place), message }
}

/** The list of all schemes is longer than anybody reads when the one that was meant is known. */
const optionsShownMax = 12

function expectation(issue: z.core.$ZodIssue): string {
  const missing = 'input' in issue && issue.input === undefined ? 'missing; ' : ''
  switch (issue.code) {
    case 'invalid_type': {
      if (issue.message.startsWith('expected')) return `${missing}${issue.message}`
      const found = missing === '' ? `, found ${typeName(issue.input)}` : ''
      return `${missing}expected ${nameOf(issue.expected)}${found}`
    }
    case 'invalid_value':
      return missing + oneOf(issue.values.map(String), issue.input)
    case 'invalid_union':
      return missing + unionExpectation(issue)
    case 'invalid_key':
      return issue.issues.map(({ message }) => message).join(', ')
    // All others say it well after a title of zod's.
    default:
      return issue.message.replace(/^(?:Too small|Too big|Invalid [a-z]+): /, '')
  }
}

function unionExpectation(issue: z.core.$ZodIssueInvalidUnion): string {
  const options: readonly unknown[] = 'options' in issue && Array.isArray(issue.options) ? issue.options : []
  if (options.length > 0) {
    const discriminator = 'discriminator' in issue ? String(issue.discriminator) : ''
    const written = property(issue.input, discriminator)
    return (written === undefined ? 'missing; ' : '') + oneOf(options.map(String), written)
  }
  if (issue.message.startsWith('expected')) return issue.message
  // An alternative whose mistakes all lie deeper is the one that was meant.
  const meant = issue.errors.find((mistakes) => mistakes.length > 0 && mistakes.every(({ path }) => path.length > 0))
  if (meant) return meant.map((mistake) => `${placeText(mistake.path)}: ${expectation(mistake)}`).join('; ')
  const texts = issue.errors.flatMap((mistakes) => mistakes.map(expectation))
  return [...new Set(texts)].join('; or ')
}

function oneOf(options: readonly string[], written: unknown): string {
  const suggestion = typeof written === 'string' ? suggest(written, options) : ''
  if (suggestion !== '' && options.length > optionsShownMax) return `unknown ${JSON.stringify(written)}${suggestion}`
  return `expected ${options.length > 1 ? 'one of ' : ''}${options.toSorted().join(', ')}${suggestion}`
}

function nameOf(type: string): string {
  const names: Record<string, string> = {
    array: 'a list',
    object: 'a map',
    record: 'a map',
    string: 'text',
    boolean: 'true or false',
    int: 'a whole number',
    number: 'a number',
  }
  return names[type] ?? type
}

function typeName(value: unknown): string {
  if (value === null) return 'nothing'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object') return 'a map'
  return nameOf(typeof value)
}

/** A value's own property, whatever the value is. */
export function property(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined
}

interface JsonSchema {
  properties?: Record<string, JsonSchema>
  items?: JsonSchema
  additionalProperties?: JsonSchema | boolean
  anyOf?: JsonSchema[]
  oneOf?: JsonSchema[]
  enum?: unknown[]
  const?: unknown
}

/** The keys that a schema knows at a place; of alternatives those that the value's own words chose (`scheme: hmac`). */
function knownKeys(schema: z.ZodType, value: unknown, place: Place): string[] {
  let levels = [z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as JsonSchema]
  let inside = value
  for (const part of place) {
    levels = alternatives(levels, inside).flatMap((level) => {
      const next =
        typeof part === 'number' ? level.items : (level.properties?.[String(part)] ?? level.additionalProperties)
      return typeof next === 'object' ? [next] : []
    })
    inside = property(inside, String(part))
  }
  return [...new Set(alternatives(levels, inside).flatMap((level) => Object.keys(level.properties ?? {})))]
}

function alternatives(levels: readonly JsonSchema[], value: unknown): JsonSchema[] {
  return levels
    .flatMap((level) => level.anyOf ?? level.oneOf ?? [level])
    .filter((level) =>
      Object.entries(level.properties ?? {}).every(([key, { enum: words, const: word }]) => {
        const chosen = words ?? (word === undefined ? undefined : [word])
        const written = property(value, key)
        return chosen === undefined || written === undefined || chosen.includes(written)
      }),
    )
}
