import type { z } from 'zod'

/** Variables by name, each with the zod schema that reads its text. */
export type EnvironmentShape = Readonly<Record<string, z.ZodType>>

export type Environment<Shape extends EnvironmentShape> = { readonly [Name in keyof Shape]: z.output<Shape[Name]> }

export type ParsedEnvironment<Shape extends EnvironmentShape> =
  | { readonly kind: 'valid'; readonly values: Environment<Shape> }
  /** One line for each variable that is wrong: its name, what was expected, what was found. */
  | { readonly kind: 'invalid'; readonly problems: readonly string[] }

const secretNames = /SECRET|TOKEN|PASSWORD|CREDENTIAL|HEADERS|_KEYS?$/
const redacted = '[redacted]'
/** Enough of a wrong value to recognise it. */
const foundCharsMax = 80

/**
 * The process's environment, as typed values. When variables are missing or wrong, prints a line for each of them to
 * stderr and exits with code 1. With packages/lifecycle's signal handling, the only reader of `process.env`.
 */
export function readEnvironment<Shape extends EnvironmentShape>(shape: Shape): Environment<Shape> {
  const parsed = parseEnvironment(shape, process.env)
  if (parsed.kind === 'valid') return parsed.values
  process.stderr.write(parsed.problems.map((problem) => `${problem}\n`).join(''))
  process.exit(1)
}

/** Reads `shape` from `variables`. An empty variable counts as not set, as Compose's `${NAME:-}` makes them. */
export function parseEnvironment<Shape extends EnvironmentShape>(
  shape: Shape,
  variables: Readonly<Record<string, string | undefined>>,
): ParsedEnvironment<Shape> {
  const values: Record<string, unknown> = {}
  const problems: string[] = []
  for (const [name, schema] of Object.entries(shape)) {
    const found = variables[name] === '' ? undefined : variables[name]
    const result = schema.safeParse(found)
    if (result.success) values[name] = result.data
    else problems.push(`${name}: ${expectation(result.error)}; found ${foundText(name, found)}`)
  }
  if (problems.length > 0) return { kind: 'invalid', problems }
  return { kind: 'valid', values: values as Environment<Shape> }
}

/**
 * The values of an environment as one object to log: secrets censored by their names, passwords cut out of URLs,
 * encryption keys shown by their ids.
 */
export function describeEnvironment(values: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(values).flatMap(([name, value]) => (value === undefined ? [] : [[name, shownValue(name, value)]])),
  )
}

function expectation(error: z.ZodError): string {
  return [...new Set(error.issues.map((issue) => issue.message))].join(', ')
}

function foundText(name: string, found: string | undefined): string {
  if (found === undefined) return 'nothing: it is not set'
  if (secretNames.test(name)) return `${redacted} (${found.length} characters)`
  const shown = withoutCredentials(found)
  return JSON.stringify(shown.length > foundCharsMax ? `${shown.slice(0, foundCharsMax)}…` : shown)
}

function shownValue(name: string, value: unknown): unknown {
  if (Array.isArray(value) && value.every(hasId)) return value.map(({ id }) => id)
  if (secretNames.test(name)) return redacted
  return typeof value === 'string' ? withoutCredentials(value) : value
}

function hasId(value: unknown): value is { id: string } {
  return typeof value === 'object' && value !== null && 'id' in value && typeof value.id === 'string'
}

/** A URL without its password and query, which may carry one too; also when it is too broken to parse. */
function withoutCredentials(value: string): string {
  return value
    .replace(/^((?:[a-z][a-z\d+.-]*:\/\/)?[^:@/?#]*):.*@/i, `$1:${redacted}@`)
    .replace(/^([a-z][a-z\d+.-]*:\/\/[^?]*)\?.*$/i, `$1?${redacted}`)
}
