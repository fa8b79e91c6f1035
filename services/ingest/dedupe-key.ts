import { hash } from 'node:crypto'
import { soleHeader, type HeaderPairs } from '@tenterhook/schemas/headers'
import type { SourceSpec } from '@tenterhook/schemas/source'
import { parseBody } from '@tenterhook/rules/body'
import { readPath } from '@tenterhook/rules/subject'

/** What makes this request the same event as another one; undefined when it can't be a duplicate. */
export function dedupeKeyOf(
  by: SourceSpec['dedupe']['by'],
  request: { dedupeKey: string | undefined; headers: HeaderPairs; body: Buffer },
): string | undefined {
  if (by === 'none') return undefined
  if (by === 'auto') return request.dedupeKey
  if (by === 'body') return hash('sha256', request.body)
  if ('header' in by) return soleHeader(request.headers, by.header)
  const parsed = parseBody(
    request.body,
    soleHeader(request.headers, 'content-type'),
    soleHeader(request.headers, 'content-encoding'),
  )
  const found =
    parsed.kind === 'parsed'
      ? readPath({ body: parsed.value }, by.path.startsWith('body.') ? by.path : `body.${by.path}`)
      : undefined
  return typeof found === 'string' || typeof found === 'number' || typeof found === 'bigint' ? String(found) : undefined
}
