import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { isMap, isScalar, LineCounter, parseDocument, visit, type Document, type Scalar } from 'yaml'
import { z } from 'zod'
import { compileFilter } from '@tenterhook/rules/filter'
import { connectionSpec, type ConnectionSpec } from '@tenterhook/schemas/connection'
import { destinationSpec, type DestinationSpec } from '@tenterhook/schemas/destination'
import { sourceSpec, type SourceSpec } from '@tenterhook/schemas/source'
import { resolveReferences } from './references.ts'

/** What a configuration file asks for. `renamedFrom` keeps an entry's id, and so its history, under a new name. */
export interface DesiredConfig {
  sources: Desired<SourceSpec>[]
  destinations: Desired<DestinationSpec>[]
  connections: Desired<ConnectionSpec>[]
}
export interface Desired<S> {
  spec: S
  renamedFrom: string | undefined
}

/** One thing that is wrong, where it stands, and what was expected. */
export interface FileProblem {
  /** From 1; undefined when the file as a whole is wrong. */
  line: number | undefined
  path: string
  message: string
}

export type LoadedFile = { kind: 'loaded'; desired: DesiredConfig } | { kind: 'invalid'; problems: FileProblem[] }

const fileBytesMax = 4 * 1_048_576
const kinds = { sources: sourceSpec, destinations: destinationSpec, connections: connectionSpec } as const
type Kind = keyof typeof kinds

/** Reads, completes and checks a configuration file; reports everything that is wrong with it at once. Throws only when it can't be read. */
export async function loadConfigFile(path: string, environment: Readonly<Record<string, string | undefined>>): Promise<LoadedFile> {
  const text = await readFile(path, 'utf8')
  if (text.length > fileBytesMax) return { kind: 'invalid', problems: [{ line: undefined, path: '', message: `the file is larger than ${fileBytesMax} bytes` }] }
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true })
  const problems: FileProblem[] = document.errors.map((error) => ({ line: lines.linePos(error.pos[0]).line, path: '', message: `not valid YAML: ${error.message}` }))
  if (problems.length > 0) return { kind: 'invalid', problems }

  const at = (where: readonly PropertyKey[], message: string): FileProblem => ({ line: lineOf(document, lines, where), path: pathText(where), message })
  await fillReferences(document, { environment, directory: dirname(resolve(path)) }, (scalar, message) =>
    problems.push({ line: scalar.range ? lines.linePos(scalar.range[0]).line : undefined, path: pathOfScalar(document, scalar), message }),
  )
  const root: unknown = document.toJS({ maxAliasCount: 100 })
  const shape = z.strictObject({ sources: entries, destinations: entries, connections: entries }).safeParse(root ?? {})
  if (!shape.success) {
    problems.push(...shape.error.issues.map((issue) => at(issue.path, issueText(issue))))
    return { kind: 'invalid', problems }
  }

  const desired = {
    sources: parseKind('sources', shape.data.sources, at, problems) as Desired<SourceSpec>[],
    destinations: parseKind('destinations', shape.data.destinations, at, problems) as Desired<DestinationSpec>[],
    connections: parseKind('connections', shape.data.connections, at, problems) as Desired<ConnectionSpec>[],
  }
  checkConnections(desired, at, problems)
  return problems.length > 0 ? { kind: 'invalid', problems } : { kind: 'loaded', desired }
}

const entries = z.record(z.string(), z.looseObject({ renamedFrom: z.string().optional() }), 'expected a map from names to definitions').nullish().transform((value) => value ?? {})

type At = (where: readonly PropertyKey[], message: string) => FileProblem

function parseKind(kind: Kind, found: Record<string, { renamedFrom?: string | undefined }>, at: At, problems: FileProblem[]): Desired<unknown>[] {
  return Object.entries(found).flatMap(([name, { renamedFrom, ...spec }]) => {
    const parsed = kinds[kind].safeParse({ ...spec, name })
    if (parsed.success) return [{ spec: parsed.data, renamedFrom }]
    // The name stands as the key above, not inside.
    problems.push(...parsed.error.issues.map((issue) => at([kind, name, ...(issue.path[0] === 'name' ? [] : issue.path)], issueText(issue))))
    return []
  })
}

function checkConnections(desired: DesiredConfig, at: At, problems: FileProblem[]): void {
  for (const { spec } of desired.connections) {
    const where = ['connections', spec.name]
    for (const kind of ['source', 'destination'] as const) {
      const names = desired[`${kind}s`].map((one) => one.spec.name)
      if (!names.includes(spec[kind])) problems.push(at([...where, kind], `there is no ${kind} named ${JSON.stringify(spec[kind])}; expected one of ${names.join(', ') || 'none, the file defines none'}`))
    }
    const compiled = compileFilter(spec.filter)
    if (compiled.kind === 'invalid') {
      for (const error of compiled.errors) problems.push(at([...where, ...error.path.split('.')], `${error.message}${error.expected ? `; expected ${error.expected}` : ''}`))
    }
  }
}

async function fillReferences(document: Document.Parsed, surroundings: Parameters<typeof resolveReferences>[1], report: (scalar: Scalar, message: string) => void): Promise<void> {
  const scalars: Scalar[] = []
  visit(document, {
    Scalar(key, scalar) {
      if (key !== 'key' && typeof scalar.value === 'string' && /\$\{|^file:/.test(scalar.value)) scalars.push(scalar)
    },
  })
  for (const scalar of scalars) {
    const resolved = await resolveReferences(String(scalar.value), surroundings)
    if (resolved.kind === 'resolved') scalar.value = resolved.value
    else report(scalar, `${resolved.message}; expected ${resolved.expected}`)
  }
}

/** The line of the deepest part of the path that stands in the file: of a missing key, its parent's. */
function lineOf(document: Document.Parsed, lines: LineCounter, where: readonly PropertyKey[]): number | undefined {
  for (let depth = where.length; depth > 0; depth--) {
    const parent = depth === 1 ? document.contents : document.getIn(where.slice(0, depth - 1), true)
    const key = where[depth - 1]
    if (isMap(parent)) {
      const pair = parent.items.find((item) => isScalar(item.key) && item.key.value === key)
      if (pair && isScalar(pair.key) && pair.key.range) return lines.linePos(pair.key.range[0]).line
    }
    const node: unknown = document.getIn(where.slice(0, depth), true)
    if (typeof node === 'object' && node !== null && 'range' in node && Array.isArray(node.range)) return lines.linePos(Number(node.range[0])).line
  }
  return undefined
}

function pathOfScalar(document: Document.Parsed, wanted: Scalar): string {
  let found = ''
  visit(document, {
    Scalar(key, scalar, parents) {
      if (scalar !== wanted) return undefined
      const names = parents.flatMap((parent) => ('key' in parent && isScalar(parent.key) ? [String(parent.key.value)] : []))
      found = pathText(typeof key === 'number' ? [...names, key] : names)
      return visit.BREAK
    },
  })
  return found
}

function pathText(where: readonly PropertyKey[]): string {
  return where.map((part) => (typeof part === 'number' ? `[${part}]` : String(part))).join('.').replaceAll('.[', '[')
}

function issueText(issue: z.core.$ZodIssue): string {
  if (issue.code === 'unrecognized_keys') return `unknown ${issue.keys.length > 1 ? 'keys' : 'key'} ${issue.keys.map((key) => JSON.stringify(key)).join(', ')}`
  return issue.message
}
