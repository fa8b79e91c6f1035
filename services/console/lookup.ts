import type { Request } from 'express'
import { name } from '@tenterhook/schemas/name'
import type { Page } from '@tenterhook/store/page'
import { Refused } from './problem.ts'
import { isIdOf } from './request.ts'

/** Everything that has an address of its own, and what its ids begin with. */
export const prefixes = {
  source: 'src',
  destination: 'dst',
  connection: 'con',
  event: 'evt',
  delivery: 'dlv',
  attempt: 'dlv',
  rejection: 'rej',
  duplicate: 'dup',
} as const
export type Kind = keyof typeof prefixes

/** The `:id` of the path. */
export function givenId(request: Request): string {
  const { id } = request.params
  return typeof id === 'string' ? id : ''
}

/** The `:id` of the path when it can be one; a 404 otherwise, without asking Postgres. */
export function idOf<Id extends string>(request: Request, kind: Kind): Id {
  const id = givenId(request)
  if (!isIdOf(prefixes[kind])(id)) throw unknown(kind, id)
  return id as Id
}

/** The same where a name will do: in the configuration. */
export function nameOrIdOf(request: Request, kind: 'source' | 'destination' | 'connection'): string {
  const given = givenId(request)
  if (!name.safeParse(given).success) throw unknown(kind, given)
  return given
}

/** The one row, or a 404. */
export function sole<Row>({ rows }: Pick<Page<Row>, 'rows'>, kind: Kind, id: string): Row {
  const [row] = rows
  if (row === undefined) throw unknown(kind, id)
  return row
}

export function unknown(kind: Kind, id: string): Refused {
  const shown = JSON.stringify(id.slice(0, 100))
  return new Refused({
    status: 404,
    code: `${kind}_unknown`,
    detail: `there is no ${kind} ${shown}; ids look like ${prefixes[kind]}_01k0… (26 characters after the prefix)`,
  })
}
