import { isUtf8 } from 'node:buffer'

import { parsed, unparsed, type ParseOutcome } from './parse-outcome.ts'

export type Charset = 'utf-8' | 'iso-8859-1'

/** US-ASCII is read as the UTF-8 it is part of. No charset means UTF-8. */
const charsets: ReadonlyMap<string, Charset> = new Map([
  ['utf-8', 'utf-8'],
  ['utf8', 'utf-8'],
  ['us-ascii', 'utf-8'],
  ['ascii', 'utf-8'],
  ['iso-8859-1', 'iso-8859-1'],
  ['iso8859-1', 'iso-8859-1'],
  ['latin1', 'iso-8859-1'],
])

export function readCharset(declared: string | undefined): ParseOutcome<Charset> {
  const charset = charsets.get((declared ?? 'utf-8').trim().toLowerCase())
  return charset ? parsed(charset) : unparsed('unsupported_charset', 'the charset is neither UTF-8 nor ISO-8859-1')
}

/** Fatal: text with replacement characters in it would make different bodies look equal. A byte order mark is dropped. */
export function decodeText(bytes: Buffer, charset: Charset): ParseOutcome<string> {
  if (charset === 'iso-8859-1') return parsed(bytes.toString('latin1'))
  if (!isUtf8(bytes)) return unparsed('not_in_charset', 'the body is not UTF-8')
  const marked = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf
  return parsed(bytes.toString('utf8', marked ? 3 : 0))
}
