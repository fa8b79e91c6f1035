/**
 * Named values as forms, query strings and headers carry them: a string, or the strings in order of arrival when the
 * name came more than once. Without a prototype, so that a field named `__proto__` or `constructor` is a field.
 */
export type Fields = Record<string, string | string[]>

/** Adds in place; the second value of a name makes a list. */
export function addField<T extends string | object>(fields: Record<string, T | T[]>, name: string, value: T): void {
  const present = fields[name]
  if (present === undefined) fields[name] = value
  else if (Array.isArray(present)) present.push(value)
  else fields[name] = [present, value]
}

export function emptyFields<T>(): Record<string, T> {
  return Object.create(null) as Record<string, T>
}
