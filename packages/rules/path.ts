import { suggest } from './suggestion.ts'

/** What an event shows to filters, and what its values can be: anything, one string or a list of them, or one string. */
export const roots = {
  body: 'any',
  headers: 'texts',
  query: 'texts',
  path: 'text',
  type: 'text',
  source: 'text',
} as const
export type Root = keyof typeof roots
export const rootNames = Object.keys(roots) as Root[]

/** A filter deeper than this was not written by a person; the walk's recursion follows it. */
export const pathSegmentsMax = 32
export const pathLengthMax = 500

export interface Segment {
  key: string
  /** The key as an array index, if it can be one. */
  index: number | undefined
}

/**
 * A place in an event, or in an element of a list (`$elemMatch`), as written in dotted form.
 *
 * `body` goes down through objects and lists; a key that holds a dot, a backslash or begins with `$` is written with a
 * backslash before that character: `body.labels.app\.kubernetes\.io/name`. `headers` and `query` are flat: all that
 * follows is the name, dots included (`query.hub.mode`), and header names have no letter case.
 */
export interface Path {
  text: string
  /** Which kind of values it leads to. */
  values: (typeof roots)[Root]
  segments: readonly Segment[]
}

export type PathResult = { kind: 'path'; path: Path } | { kind: 'invalid'; message: string; expected: string }

export const eventPath: Path = { text: '', values: 'any', segments: [] }

/** A path that starts at an event: `body.data.object.id`, `headers.x-request-id`, `type`. */
export function parsePath(text: string): PathResult {
  return extendPath(eventPath, text)
}

/** True where keys may follow: the event itself, body, headers and query as wholes, and anything below body. */
export function canExtend(path: Path): boolean {
  return path.values === 'any' || (path.values === 'texts' && path.segments.length === 1)
}

/** Puts dotted keys behind a path, `eventPath` among them. */
export function extendPath(base: Path, dotted: string): PathResult {
  const text = base === eventPath ? dotted : base.text === '' ? dotted : `${base.text}.${dotted}`
  if (text.length > pathLengthMax)
    return invalid(`the path is longer than ${pathLengthMax} characters`, 'a shorter path')
  if (base === eventPath) return startPath(text)
  if (base.values === 'text' || !canExtend(base))
    return invalid(`${base.text} is a string, it has no fields`, 'a value or operators')
  if (base.values === 'texts') return namedPath(base, text, dotted)
  const keys = splitKeys(dotted)
  if (!keys)
    return invalid(
      `"${dotted}" has an empty part or a stray backslash`,
      'keys with dots between them; \\. for a dot in a key',
    )
  const segments = [...base.segments, ...keys.map(segment)]
  if (segments.length > pathSegmentsMax)
    return invalid(`the path has more than ${pathSegmentsMax} parts`, 'a shorter path')
  return { kind: 'path', path: { text, values: 'any', segments } }
}

function startPath(text: string): PathResult {
  const dot = text.indexOf('.')
  const root = dot === -1 ? text : text.slice(0, dot)
  if (!isRoot(root)) {
    return invalid(
      `unknown field "${root}"${suggest(root, rootNames)}`,
      `a path that begins with ${rootNames.join(', ')}`,
    )
  }
  const path: Path = { text: root, values: roots[root], segments: [segment(root)] }
  return dot === -1 ? { kind: 'path', path } : extendPath(path, text.slice(dot + 1))
}

function namedPath(base: Path, text: string, name: string): PathResult {
  if (name === '') return invalid(`${base.text} needs a name`, `${base.text}.name`)
  const key = base.text === 'headers' ? name.toLowerCase() : name
  return { kind: 'path', path: { text, values: 'texts', segments: [...base.segments, segment(key)] } }
}

function isRoot(name: string): name is Root {
  return Object.hasOwn(roots, name)
}

function invalid(message: string, expected: string): PathResult {
  return { kind: 'invalid', message, expected }
}

function splitKeys(dotted: string): string[] | undefined {
  const keys: string[] = []
  let key = ''
  for (let i = 0; i < dotted.length; i += 1) {
    const char = dotted.charAt(i)
    if (char === '.') {
      if (key === '') return undefined
      keys.push(key)
      key = ''
    } else if (char === '\\') {
      i += 1
      const escaped = dotted.charAt(i)
      if (escaped === '' || !'.\\$'.includes(escaped)) return undefined
      key += escaped
    } else key += char
  }
  if (key === '') return undefined
  keys.push(key)
  return keys
}

function segment(key: string): Segment {
  return { key, index: /^(?:0|[1-9]\d{0,8})$/.test(key) ? Number(key) : undefined }
}
