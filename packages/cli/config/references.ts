import { open } from 'node:fs/promises'
import { resolve } from 'node:path'

/** A value with its references filled in, or what is wrong with one of them and what was expected. */
export type Resolved = { kind: 'resolved'; value: string } | { kind: 'unresolved'; message: string; expected: string }

export interface Surroundings {
  environment: Readonly<Record<string, string | undefined>>
  /** Where relative `file:` paths begin. */
  directory: string
}

/** A secret file is a line or two; anything larger is the wrong file. */
const secretFileBytesMax = 64 * 1_024
const forms = '${NAME}, ${NAME:-otherwise}, or $${ for a literal ${'

/**
 * Fills in what a configuration file leaves to the environment: `${NAME}` must be set and not empty,
 * `${NAME:-otherwise}` has a fallback, `$${` is a literal `${`. Anything else after `${` is refused: a secret that is
 * the text of a mistyped reference would be a secret that everyone can read.
 */
export function fillVariables(text: string, environment: Surroundings['environment']): Resolved {
  const missing: string[] = []
  const malformed: string[] = []
  const value = text.replace(/\$\$\{|\$\{([^}]*)\}|\$\{/g, (whole, inside?: string) => {
    if (whole === '$${') return '${'
    const [, name, otherwise] = /^([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?$/s.exec(inside ?? '') ?? []
    if (name === undefined || otherwise?.includes('${')) {
      malformed.push(whole)
      return whole
    }
    const found = environment[name]
    if (found !== undefined && found !== '') return found
    if (otherwise === undefined) missing.push(name)
    return otherwise ?? whole
  })
  if (malformed.length > 0) {
    return { kind: 'unresolved', message: `${malformed.join(', ')} is not a reference`, expected: forms }
  }
  if (missing.length > 0) {
    const names = [...new Set(missing)].join(', ')
    return {
      kind: 'unresolved',
      message: `${names} is not set`,
      expected: `the environment variable ${names}, or a fallback: \${${missing[0]}:-…}`,
    }
  }
  return { kind: 'resolved', value }
}

/** The text of the file that `file:<path>` names, without its last line break; any other text as it is. */
export async function fillFile(text: string, directory: string): Promise<Resolved> {
  if (!text.startsWith('file:')) return { kind: 'resolved', value: text }
  const path = text.slice('file:'.length)
  const expected = 'a readable file that holds one secret'
  try {
    await using file = await open(resolve(directory, path))
    const { buffer, bytesRead } = await file.read(Buffer.alloc(secretFileBytesMax + 1))
    if (bytesRead > secretFileBytesMax)
      return { kind: 'unresolved', message: `${path} is larger than ${secretFileBytesMax} bytes`, expected }
    return { kind: 'resolved', value: buffer.toString('utf8', 0, bytesRead).replace(/\r?\n$/, '') }
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error)
    return { kind: 'unresolved', message: `${path} can't be read (${code})`, expected }
  }
}
