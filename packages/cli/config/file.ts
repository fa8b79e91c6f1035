import { stat, readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { z } from 'zod'
import { compileFilter } from '@tenterhook/rules/filter'
import { checkOrderPath } from '@tenterhook/rules/order-key'
import { suggest } from '@tenterhook/rules/suggestion'
import { connectionSpec, type ConnectionSpec } from '@tenterhook/schemas/connection'
import { destinationSpec, type DestinationSpec } from '@tenterhook/schemas/destination'
import { name as nameSchema } from '@tenterhook/schemas/name'
import { sourceSpec, type SourceSpec } from '@tenterhook/schemas/source'
import { placeText, readDocument, type ConfigDocument, type FileProblem, type Place } from './document.ts'
import { mistakesOf, problemAt, property } from './expectation.ts'
import { fillFile, fillVariables, type Resolved, type Surroundings } from './references.ts'

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

export type LoadedFile =
  /** `warnings`: what is allowed, and probably not meant. */
  { kind: 'loaded'; desired: DesiredConfig; warnings: FileProblem[] } | { kind: 'invalid'; problems: FileProblem[] }

export const configFileBytesMax = 4 * 1_048_576
const kinds = ['sources', 'destinations', 'connections'] as const
type Kind = (typeof kinds)[number]

const entries = z
  .record(
    z.string(),
    z.record(z.string(), z.unknown(), 'expected a map of settings'),
    'expected a map from names to settings',
  )
  .nullish()
  .transform((value) => value ?? {})
const fileShape = z.strictObject({ sources: entries, destinations: entries, connections: entries })

/** Reads, completes and checks a configuration file; reports everything that is wrong with it at once. Throws only when it can't be read. */
export async function loadConfigFile(path: string, environment: Surroundings['environment']): Promise<LoadedFile> {
  const { size } = await stat(path)
  if (size > configFileBytesMax) return wholeFile(`the file has ${size} bytes; expected at most ${configFileBytesMax}`)
  return readConfig(await readFile(path, 'utf8'), { environment, directory: dirname(resolve(path)) })
}

async function readConfig(text: string, surroundings: Surroundings): Promise<LoadedFile> {
  const read = readDocument(text)
  if (read.kind === 'invalid') return read
  const problems = new Problems(read.document)
  await fillReferences(read.document, surroundings, problems)

  let root: unknown
  try {
    root = read.document.value()
  } catch (error) {
    return wholeFile(`not valid YAML: ${error instanceof Error ? error.message : String(error)}`)
  }
  // A file that was cut off to nothing must not remove everything; `sources: {}` says that it is meant.
  if (root === null || root === undefined) return wholeFile(`the file is empty; expected ${kinds.join(', ')}`)
  const shape = fileShape.safeParse(root, { reportInput: true })
  if (!shape.success) {
    for (const { place, message } of mistakesOf(shape.error, fileShape, root)) problems.add(place, message)
    return { kind: 'invalid', problems: problems.sorted() }
  }

  const desired: DesiredConfig = {
    sources: readKind('sources', sourceSpec, shape.data.sources, problems),
    destinations: readKind('destinations', destinationSpec, shape.data.destinations, problems),
    connections: readKind('connections', connectionSpec, shape.data.connections, problems),
  }
  const warnings = new Problems(read.document)
  checkConnections(desired, shape.data, problems, warnings)
  return problems.found.length > 0
    ? { kind: 'invalid', problems: problems.sorted() }
    : { kind: 'loaded', desired, warnings: warnings.sorted() }
}

/** Owns what was found wrong; keeps one problem for each place, the first: later ones are its consequences. */
class Problems {
  readonly found: FileProblem[] = []
  readonly #document: ConfigDocument

  constructor(document: ConfigDocument) {
    this.#document = document
  }

  add(place: Place, message: string): void {
    const path = placeText(place)
    if (this.found.some((problem) => problem.path === path)) return
    this.found.push(problemAt(this.#document.lineOf, place, message))
  }

  sorted(): FileProblem[] {
    return this.found.toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0))
  }
}

function wholeFile(message: string): LoadedFile {
  return { kind: 'invalid', problems: [{ line: undefined, path: '', message }] }
}

async function fillReferences(document: ConfigDocument, surroundings: Surroundings, problems: Problems): Promise<void> {
  for (const text of document.texts()) {
    const written = text.read()
    let resolved: Resolved = fillVariables(written, surroundings.environment)
    // Connections hold no secrets, but filters may look for values that begin with `file:`.
    if (resolved.kind === 'resolved' && text.place[0] !== 'connections')
      resolved = await fillFile(resolved.value, surroundings.directory)
    if (resolved.kind === 'unresolved') problems.add(text.place, `${resolved.message}; expected ${resolved.expected}`)
    else if (resolved.value !== written) text.write(resolved.value)
  }
}

function readKind<Spec extends { name: string }>(
  kind: Kind,
  schema: z.ZodType<Spec>,
  found: Readonly<Record<string, Readonly<Record<string, unknown>>>>,
  problems: Problems,
): Desired<Spec>[] {
  const names = Object.keys(found)
  return Object.entries(found).flatMap(([name, { renamedFrom, ...written }]) => {
    const place = [kind, name]
    if ('name' in written) problems.add([...place, 'name'], 'unknown key "name"; the name is the key above')
    checkRename(renamedFrom, names, found, [...place, 'renamedFrom'], problems)
    const value = { ...written, name }
    const parsed = schema.safeParse(value, { reportInput: true })
    if (parsed.success)
      return [{ spec: parsed.data, renamedFrom: typeof renamedFrom === 'string' ? renamedFrom : undefined }]
    for (const mistake of mistakesOf(parsed.error, schema, value)) {
      // The name stands as the key above, not inside.
      problems.add([...place, ...(mistake.place[0] === 'name' ? [] : mistake.place)], mistake.message)
    }
    return []
  })
}

/** What could be read in two ways is refused, so that applying the same file twice is always applying it once. */
function checkRename(
  renamedFrom: unknown,
  names: readonly string[],
  found: Readonly<Record<string, Readonly<Record<string, unknown>>>>,
  place: Place,
  problems: Problems,
): void {
  if (renamedFrom === undefined) return
  const parsed = nameSchema.safeParse(renamedFrom)
  if (!parsed.success) problems.add(place, 'expected the name that this had before')
  else if (names.includes(parsed.data))
    problems.add(
      place,
      `${JSON.stringify(parsed.data)} is defined in this file too; expected a name that is gone (to swap two names, rename one to a third first, and apply between)`,
    )
  else if (names.filter((other) => found[other]?.['renamedFrom'] === parsed.data).length > 1)
    problems.add(place, `another entry is renamed from ${JSON.stringify(parsed.data)} too; expected one`)
}

function checkConnections(
  desired: DesiredConfig,
  written: Readonly<Record<Kind, Readonly<Record<string, unknown>>>>,
  problems: Problems,
  warnings: Problems,
): void {
  for (const { spec } of desired.connections) {
    const place = ['connections', spec.name]
    for (const kind of ['source', 'destination'] as const) {
      // Those whose own settings are wrong are named here too: they exist.
      const names = Object.keys(written[`${kind}s`])
      if (names.includes(spec[kind])) continue
      const suggestion = suggest(spec[kind], names)
      problems.add(
        [...place, kind],
        `there is no ${kind} ${JSON.stringify(spec[kind])}${suggestion || `; expected one of ${names.join(', ') || `the file's ${kind}s, which are none`}`}`,
      )
    }
    const compiled = compileFilter(spec.filter)
    const report = compiled.kind === 'invalid' ? problems : warnings
    for (const { at, message, expected } of compiled.kind === 'invalid' ? compiled.errors : compiled.warnings)
      report.add([...place, 'filter', ...at], `${message}${expected === '' ? '' : `; expected ${expected}`}`)
    if (!spec.order) continue
    const path = checkOrderPath(spec.order.by)
    const short = typeof property(written.connections[spec.name], 'order') === 'string'
    if (path.kind === 'invalid')
      problems.add([...place, 'order', ...(short ? [] : ['by'])], `${path.message}; expected ${path.expected}`)
  }
}

/** `tenterhook.yaml:12: destinations.crm.url: expected an http or https URL`, one line for each. */
export function problemLines(file: string, problems: readonly FileProblem[]): string[] {
  return problems.map(({ line, path, message }) =>
    [line === undefined ? file : `${file}:${line}`, ...(path === '' ? [] : [path]), message].join(': '),
  )
}
