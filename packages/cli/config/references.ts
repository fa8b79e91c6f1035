import { readFile } from 'node:fs/promises'
import { isAbsolute, resolve } from 'node:path'

/**
 * Fills in what a configuration file leaves to its surroundings: `${NAME}` from the environment (it must be set),
 * `${NAME:-otherwise}` with a fallback, `$${` for a literal `${`; and a value that is `file:<path>` as a whole becomes
 * that file's text without its last line break, relative to the configuration file.
 */
export type Resolved = { kind: 'resolved'; value: string } | { kind: 'unresolved'; message: string; expected: string }

/** A secret file is a line or two; anything larger is the wrong file. */
const secretFileBytesMax = 64 * 1_024

export async function resolveReferences(text: string, surroundings: { environment: Readonly<Record<string, string | undefined>>; directory: string }): Promise<Resolved> {
  const missing: string[] = []
  const value = text.replace(/\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}/g, (whole, name?: string, otherwise?: string) => {
    if (name === undefined) return '${'
    const found = surroundings.environment[name]
    if (found !== undefined && found !== '') return found
    if (otherwise !== undefined) return otherwise
    missing.push(name)
    return whole
  })
  if (missing.length > 0) {
    return { kind: 'unresolved', message: `${missing.join(', ')} is not set`, expected: `the environment variable ${missing.join(', ')}, or a fallback: \${${missing[0]}:-…}` }
  }
  if (!value.startsWith('file:')) return { kind: 'resolved', value }
  const path = value.slice('file:'.length)
  try {
    const content = await readFile(isAbsolute(path) ? path : resolve(surroundings.directory, path), 'utf8')
    if (content.length > secretFileBytesMax) return { kind: 'unresolved', message: `${path} is larger than ${secretFileBytesMax} bytes`, expected: 'a file that holds one secret' }
    return { kind: 'resolved', value: content.replace(/\r?\n$/, '') }
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error)
    return { kind: 'unresolved', message: `${path} can't be read (${code})`, expected: 'a readable file' }
  }
}
