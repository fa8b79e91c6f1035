import { createHash } from 'node:crypto'
import type { Inbound } from './inbound.ts'
import type { Alternative, Source } from './row.ts'

const keyCharsMax = 256
const typeCharsMax = 200

/** What the sources of a row are read from. */
export interface Origin {
  inbound: Inbound
  signedId: string | undefined
}

/** The key by which two requests are the same event: the first alternative whose parts are all there. */
export function dedupeKeyOf(alternatives: readonly Alternative[], origin: Origin): string | undefined {
  for (const alternative of alternatives) {
    const parts = alternative.map((source) => read(source, origin))
    if (!isFull(parts)) continue
    const key = parts.map((values) => values.join(',')).join(':')
    // Long keys (batches) and keys with control characters are told apart by their hash just as well.
    return key.length <= keyCharsMax && isPlain(key) ? key : `sha256:${createHash('sha256').update(key).digest('hex')}`
  }
  return undefined
}

/** What kind of event it is. A batch of several kinds has no one type; neither has a text that couldn't be a label. */
export function typeOf(alternatives: readonly Alternative[], origin: Origin): string | undefined {
  for (const alternative of alternatives) {
    const parts = alternative.map((source) => read(source, origin))
    if (!isFull(parts) || parts.some((values) => values.some((value) => value !== values[0]))) continue
    const type = parts.map((values) => values[0]).join('.')
    if (type.length <= typeCharsMax && isPlain(type)) return type
  }
  return undefined
}

function read(source: Source, { inbound, signedId }: Origin): string[] | undefined {
  if (source === 'bodyHash') return [inbound.bodyHash()]
  if (source === 'signedId') return signedId === undefined ? undefined : [signedId]
  if ('text' in source) return [source.text]
  if ('header' in source) {
    const value = inbound.header(source.header.toLowerCase())
    return value === undefined ? undefined : [value]
  }
  return inbound.at(source.path)
}

function isFull(parts: readonly (string[] | undefined)[]): parts is string[][] {
  return parts.every((values) => values !== undefined && values.length > 0 && values.every((value) => value !== ''))
}

/** Without control characters: NUL can't be stored as text, and a line break would forge log lines. */
function isPlain(text: string): boolean {
  return !/\p{Cc}/u.test(text)
}
