import { isUtf8 } from 'node:buffer'

import type { Charset } from './charset.ts'
import { addField, emptyFields, type Fields } from './fields.ts'
import { parsed, unparsed, type ParseOutcome } from './parse-outcome.ts'

/** A request line of 16 KiB can't hold more, so for query strings this bound is never met. */
export const fieldsMax = 10_000

/**
 * `application/x-www-form-urlencoded`, as the URL standard reads it. Names are literal: `items[]` and `user[name]` are
 * names with brackets, since senders disagree about what the brackets mean. Repeated names make a list.
 *
 * One difference to the standard: a name or value whose percent-encoded bytes are not in the charset stays as it was
 * sent. Replacement characters would make different values equal.
 */
export function parseUrlEncoded(text: string, charset: Charset): ParseOutcome<Fields> {
  const fields = emptyFields<string | string[]>()
  let count = 0
  let at = 0
  while (at < text.length) {
    const ampersand = text.indexOf('&', at)
    const end = ampersand === -1 ? text.length : ampersand
    if (end > at) {
      count += 1
      if (count > fieldsMax) return unparsed('too_many_values', `more than ${fieldsMax} form fields`)
      // Searched within the field: across the text, fields without a = would make this the square of its length.
      const field = text.slice(at, end)
      const equals = field.indexOf('=')
      const split = equals === -1 ? field.length : equals
      addField(
        fields,
        decodeComponent(field.slice(0, split), charset),
        decodeComponent(field.slice(split + 1), charset),
      )
    }
    at = end + 1
  }
  return parsed(fields)
}

/** A query string without its `?`. Beyond `fieldsMax` fields it reads as empty. */
export function parseQuery(rawQuery: string): Fields {
  const outcome = parseUrlEncoded(rawQuery, 'utf-8')
  return outcome.kind === 'parsed' ? outcome.value : emptyFields()
}

function decodeComponent(encoded: string, charset: Charset): string {
  const spaced = encoded.includes('+') ? encoded.replaceAll('+', ' ') : encoded
  if (!spaced.includes('%')) return spaced
  if (charset === 'iso-8859-1') return percentDecode(Buffer.from(spaced, 'latin1')).toString('latin1')
  try {
    return decodeURIComponent(spaced)
  } catch {
    // A stray % (which the standard takes literally) or bytes that are not UTF-8.
    const bytes = percentDecode(Buffer.from(spaced, 'utf8'))
    return isUtf8(bytes) ? bytes.toString('utf8') : encoded
  }
}

/** URL standard, percent-decode: a % not followed by two hex digits stands for itself. */
function percentDecode(source: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(source.length)
  let length = 0
  for (let i = 0; i < source.length; i += 1) {
    const byte = source[i] ?? 0
    const high = byte === 0x25 ? hexDigit(source[i + 1]) : -1
    const low = high === -1 ? -1 : hexDigit(source[i + 2])
    if (low === -1) bytes[length] = byte
    else {
      bytes[length] = high * 16 + low
      i += 2
    }
    length += 1
  }
  return bytes.subarray(0, length)
}

function hexDigit(byte: number | undefined): number {
  if (byte === undefined) return -1
  if (byte >= 48 && byte <= 57) return byte - 48
  const letter = byte | 0x20
  return letter >= 97 && letter <= 102 ? letter - 87 : -1
}
