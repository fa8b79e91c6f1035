/**
 * Where secrets are set, as paths into the secret part of a spec (`secrets.0`, `auth`): what may be said about them.
 * The values themselves never leave the store.
 */
export function secretNames(secret: unknown, path = ''): string[] {
  if (typeof secret === 'string') return [path]
  if (typeof secret !== 'object' || secret === null) return []
  return Object.entries(secret).flatMap(([name, inner]) => secretNames(inner, path === '' ? name : `${path}.${name}`))
}
