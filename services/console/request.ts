import { randomUUID } from 'node:crypto'
import type { Request } from 'express'
import { z } from 'zod'
import type { PageRequest } from '@tenterhook/store/page'
import { Refused } from './problem.ts'

const limitMax = 200
const limitDefault = 50
const cursorCharsMax = 200
const keyCharsMax = 200

/** One value of a query parameter; a repeated one would have to be guessed at. */
export const oneText = z
  .string('expected one value')
  .max(200, 'expected at most 200 characters')
  // oxlint-disable-next-line no-control-regex
  .regex(/^[^\x00]*$/, 'expected text without NUL')

/** An instant, as Unix milliseconds. */
const instant = z.iso
  .datetime({ offset: true, error: 'expected a time such as 2026-01-31T09:30:00Z' })
  .transform((text) => Date.parse(text))

export const pageParameters = {
  limit: oneText
    .regex(/^[1-9]\d{0,2}$/, `expected a whole number from 1 to ${limitMax}`)
    .transform(Number)
    .refine((limit) => limit <= limitMax, `expected a whole number from 1 to ${limitMax}`)
    .default(limitDefault),
  cursor: z.string('expected one value').max(cursorCharsMax, 'expected the next of an answer before').optional(),
}

export const timeParameters = { since: instant.optional(), until: instant.optional() }

/** The query by its schema; whatever is not in the schema is refused, since a misspelt filter would answer something else. */
export function readQuery<Shape extends z.ZodRawShape>(request: Request, shape: Shape): z.output<z.ZodObject<Shape>> {
  return readBy(strict(shape, 'parameter'), request.query, 'query_invalid')
}

/** The JSON body by its schema; none at all counts as `{}`. */
export function readBody<Shape extends z.ZodRawShape>(request: Request, shape: Shape): z.output<z.ZodObject<Shape>> {
  return readBy(strict(shape, 'field'), request.body ?? {}, 'body_invalid')
}

function strict<Shape extends z.ZodRawShape>(shape: Shape, called: string) {
  const known = Object.keys(shape).join(', ') || 'none'
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === 'unrecognized_keys'
        ? `there is no ${called} ${(issue.keys ?? []).join(', ')}; expected ${known}`
        : 'expected a JSON object',
  })
}

function readBy<Schema extends z.ZodType>(schema: Schema, value: unknown, code: string): z.output<Schema> {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const detail = result.error.issues
    .map(({ path, message }) => (path.length === 0 ? message : `${path.join('.')}: ${message}`))
    .join('; ')
  throw new Refused({ status: 400, code, detail })
}

/** A page of a list whose cursors are such ids. */
export function pageOf(
  query: { limit: number; cursor?: string | undefined; since?: number | undefined; until?: number | undefined },
  isCursor: (id: string) => boolean,
): PageRequest {
  const { limit, cursor, since, until } = query
  const after = cursor === undefined ? undefined : Buffer.from(cursor, 'base64url').toString('latin1')
  if (after !== undefined && !isCursor(after)) {
    throw new Refused({
      status: 400,
      code: 'cursor_invalid',
      detail: 'cursor: expected the next of an answer of this list',
    })
  }
  return { limit, after, sinceMs: since, untilMs: until }
}

/** What a caller sends back for the next page. It says nothing that is promised. */
export function cursorOf(next: string | null): string | null {
  return next === null ? null : Buffer.from(next, 'latin1').toString('base64url')
}

export function isIdOf(prefix: string): (id: string) => boolean {
  return (id) => id.startsWith(`${prefix}_`) && /^[a-z]{3}_[0-9a-z]{26}$/.test(id)
}

/** The request's Idempotency-Key, or one that nobody else has. */
export function idempotencyKey(request: Request): string {
  const given = request.headers['idempotency-key']
  if (given === undefined) return `none-${randomUUID()}`
  if (typeof given === 'string' && given.length <= keyCharsMax && /^[\x21-\x7e]+$/.test(given)) return given
  throw new Refused({
    status: 400,
    code: 'idempotency_key_invalid',
    detail: `Idempotency-Key: expected 1 to ${keyCharsMax} characters of visible ASCII, without spaces`,
  })
}
