import { soleHeader, type HeaderPairs } from '@tenterhook/schemas/headers'

import { parseBody, type ParsedBody } from './body.ts'
import { addField, emptyFields, type Fields } from './fields.ts'
import { parsePath } from './path.ts'
import { parseQuery } from './query.ts'
import { valueAt } from './walk.ts'

/** An event as filters, dedupe keys and order keys see it. */
export interface Subject {
  /** The parsed body; undefined when it could not be parsed (see `parsedBody`), and then every field below is absent. */
  readonly body: unknown
  /** Names in lower case; a string, or a list of them when the header came more than once. */
  readonly headers: Fields
  readonly query: Fields
  /** The path behind the source's own URL. */
  readonly path: string
  /** As the source's scheme tells it, e.g. `payment_intent.succeeded`. */
  readonly type: string | undefined
  /** The source's name. */
  readonly source: string
  /** Why `body` is undefined; filters can't name it. */
  readonly parsedBody: ParsedBody
}

export interface SubjectParams {
  body: Buffer
  headers: HeaderPairs
  /** As sent, without the `?`. */
  query: string
  path: string
  type: string | undefined
  source: string
}

/**
 * Nothing is parsed before it is read, and then once: events of connections without a filter on the body cost no parse.
 * A Content-Type or Content-Encoding given twice counts as absent, so that a second copy can't decide.
 */
export function buildSubject(params: SubjectParams): Subject {
  let parsedBody: ParsedBody | undefined
  let headers: Fields | undefined
  let query: Fields | undefined
  const parse = (): ParsedBody =>
    (parsedBody ??= parseBody(
      params.body,
      soleHeader(params.headers, 'content-type'),
      soleHeader(params.headers, 'content-encoding'),
    ))
  return {
    get body() {
      const outcome = parse()
      return outcome.kind === 'parsed' ? outcome.value : undefined
    },
    get headers() {
      return (headers ??= headerFields(params.headers))
    },
    get query() {
      return (query ??= parseQuery(params.query))
    },
    path: params.path,
    type: params.type,
    source: params.source,
    get parsedBody() {
      return parse()
    },
  }
}

/**
 * The value at a path such as `body.data.object.id`, `body.items.0.sku` or `headers.x-request-id` (path.ts has the
 * syntax; `parsePath` checks one when it is written). List elements by number only. Undefined when absent or when the
 * path is no path. Integers beyond ±(2^53 − 1) are `bigint`.
 */
export function readPath(subject: Partial<Subject>, path: string): unknown {
  const result = parsePath(path)
  return result.kind === 'path' ? valueAt(subject, result.path) : undefined
}

function headerFields(pairs: HeaderPairs): Fields {
  const fields = emptyFields<string | string[]>()
  for (const [name, value] of pairs) addField(fields, name.toLowerCase(), value)
  return fields
}
