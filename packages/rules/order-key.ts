import { hash } from 'node:crypto'

import { parsePath } from './path.ts'
import { readPath, type Subject } from './subject.ts'
import { isObject } from './walk.ts'

/** Longer keys are kept as their hash: what a stranger sends must not fill an index. */
export const orderKeyCharsMax = 200

/**
 * Checks the path of an order key, as it is written in a configuration: `body.customer.id`, `headers.x-account`, `type`,
 * or `source`, under which all events of a connection are one line. path.ts has the syntax.
 */
export function checkOrderPath(
  text: string,
): { kind: 'path' } | { kind: 'invalid'; message: string; expected: string } {
  const parsed = parsePath(text)
  return parsed.kind === 'path' ? { kind: 'path' } : parsed
}

/**
 * The key that an event is ordered by: the value at the path as JSON text, so that `"7"` and `7` are two keys and the
 * text can be stored whatever it holds. Of maps the names are sorted: how a sender orders them is no difference. Longer
 * than `orderKeyCharsMax` it is `sha256:` and the hash, which no JSON text begins with. Null when the value is absent or
 * null: such an event has no place in any line and is delivered unordered.
 */
export function orderKeyOf(subject: Partial<Subject>, path: string): string | null {
  const value = readPath(subject, path)
  if (value === undefined || value === null) return null
  const text = stableJson(value)
  return text.length <= orderKeyCharsMax ? text : `sha256:${hash('sha256', text)}`
}

/** JSON.stringify with two differences: names are sorted, and what JSON has no words for (bigint, Infinity) is still told apart. */
function stableJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(stableJson).join(',')}]`
  if (isObject(value)) {
    const names = Object.keys(value).toSorted()
    return `{${names.map((name) => `${JSON.stringify(name)}:${stableJson(value[name])}`).join(',')}}`
  }
  return typeof value === 'string' ? JSON.stringify(value) : String(value)
}
