import { isAlias, isMap, isPair, isScalar, LineCounter, parseDocument, visit, type Document, type Scalar } from 'yaml'

/** One thing that is wrong with a configuration file, and where it stands. */
export interface FileProblem {
  /** From 1; undefined when the file as a whole is wrong. */
  line: number | undefined
  /** `destinations.crm.url`; empty for the file as a whole. */
  path: string
  /** What is wrong, and what was expected. Never the value of a secret. */
  message: string
}

/** Where a value stands: keys and list indexes from the root. */
export type Place = readonly PropertyKey[]

/** A YAML file as a value whose parts know their lines. */
export interface ConfigDocument {
  /** The text values, to be completed in place; keys are not among them. */
  texts(): DocumentText[]
  /** What the document holds now. Throws for aliases that multiply beyond reason. */
  value(): unknown
  /** The line of the deepest part of the place that is in the file: of a missing key, its parent's. */
  lineOf(place: Place): number | undefined
}

export interface DocumentText {
  readonly place: Place
  read(): string
  write(text: string): void
}

export type ReadDocument = { kind: 'read'; document: ConfigDocument } | { kind: 'invalid'; problems: FileProblem[] }

/** More are seldom more than consequences of the first. */
const syntaxProblemsMax = 10
const aliasesMax = 100

export function readDocument(text: string): ReadDocument {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true, logLevel: 'error' })
  const lineAt = (offset: number) => lines.linePos(offset).line
  const problems = document.errors.slice(0, syntaxProblemsMax).map(({ code, message, pos: [offset] }): FileProblem => {
    const line = lineAt(offset)
    if (code !== 'DUPLICATE_KEY') return { line, path: '', message: `not valid YAML: ${message}` }
    return { line, path: placeText(placeOfKey(document, offset)), message: 'this key is there twice; expected it once' }
  })
  visit(document, {
    Alias(_, alias) {
      if (alias.resolve(document) === undefined && alias.range)
        problems.push({
          line: lineAt(alias.range[0]),
          path: '',
          message: `there is no anchor &${alias.source} before *${alias.source}`,
        })
    },
  })
  if (problems.length > 0) return { kind: 'invalid', problems }
  return {
    kind: 'read',
    document: {
      texts: () => textsOf(document),
      value: () => document.toJS({ maxAliasCount: aliasesMax }) as unknown,
      lineOf: (place) => lineOf(document, lineAt, place),
    },
  }
}

/** `destinations.crm.headers`, `connections.a.filter.$or[1]`. */
export function placeText(place: Place): string {
  return place
    .map((part, index) => (typeof part === 'number' ? `[${part}]` : `${index === 0 ? '' : '.'}${String(part)}`))
    .join('')
}

function textsOf(document: Document.Parsed): DocumentText[] {
  const texts: DocumentText[] = []
  visit(document, {
    Scalar(key, scalar, parents) {
      if (key === 'key' || typeof scalar.value !== 'string') return
      texts.push({
        place: placeOf(parents, key),
        read: () => String(scalar.value),
        write(text) {
          scalar.value = text
        },
      })
    },
  })
  return texts
}

/** The keys of the pairs above a node, and the indexes of the lists. */
function placeOf(parents: readonly unknown[], key: number | string | null): Place {
  const place: PropertyKey[] = []
  for (const [index, parent] of parents.entries()) {
    if (isPair(parent) && isScalar(parent.key)) place.push(keyText(parent.key))
    else if (typeof parent === 'object' && parent !== null && 'items' in parent && !isMap(parent)) {
      const child = parents[index + 1]
      const items = parent.items as readonly unknown[]
      place.push(child === undefined ? Number(key) : items.indexOf(child))
    }
  }
  return place
}

function placeOfKey(document: Document.Parsed, offset: number): Place {
  let place: Place = []
  visit(document, {
    Pair(_, pair, parents) {
      if (!isScalar(pair.key) || pair.key.range?.[0] !== offset) return undefined
      place = placeOf([...parents, pair], null)
      return visit.BREAK
    },
  })
  return place
}

function lineOf(document: Document.Parsed, lineAt: (offset: number) => number, place: Place): number | undefined {
  let node: unknown = document.contents
  let line: number | undefined
  for (const part of place) {
    if (isAlias(node)) node = node.resolve(document)
    if (isMap(node)) {
      const pair = node.items.find((item) => isScalar(item.key) && keyText(item.key) === String(part))
      if (!pair || !isScalar(pair.key)) return line
      if (pair.key.range) line = lineAt(pair.key.range[0])
      node = pair.value
    } else {
      if (typeof node !== 'object' || node === null || !('items' in node)) return line
      node = (node.items as readonly unknown[])[Number(part)]
      if (typeof node !== 'object' || node === null) return line
      if ('range' in node && Array.isArray(node.range)) line = lineAt(Number(node.range[0]))
    }
  }
  return line
}

/** As the key is named in the value: `123:` and `null:` too are names. */
function keyText(key: Scalar): string {
  const value: unknown = key.value
  return typeof value === 'string' ? value : JSON.stringify(value ?? '')
}
