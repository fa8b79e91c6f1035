import { decodeText, type Charset } from './charset.ts'
import { addField, emptyFields } from './fields.ts'
import { parseHeaderValue, type HeaderValue } from './header-value.ts'
import { parsed, unparsed, type ParseOutcome } from './parse-outcome.ts'

export const partsMax = 1_000
/** The headers of one part. */
export const partHeaderBytesMax = 16_384
/** RFC 2046 §5.1.1. */
const boundaryLengthMax = 70

/** What a filter sees of a file: not its bytes. A part without a file name that is no text is shown like a file. */
export interface FilePart {
  filename: string | undefined
  contentType: string | undefined
  /** Bytes. */
  size: number
}

/**
 * multipart/form-data (RFC 7578): fields as strings, files as `FilePart`, repeated names as lists. One pass from part
 * to part; the closing boundary must be there, since a body cut short would match as if it were whole.
 */
export function parseMultipart(body: Buffer, boundary: string | undefined, charset: Charset): ParseOutcome {
  if (!boundary || boundary.length > boundaryLengthMax)
    return unparsed('malformed', 'the multipart boundary is missing or too long')
  const delimiter = Buffer.from(`\r\n--${boundary}`, 'latin1')
  const fields = emptyFields<string | FilePart | (string | FilePart)[]>()

  let at = firstPart(body, delimiter)
  for (let count = 0; at !== undefined; count += 1) {
    if (at === 'closed') return parsed(fields)
    if (count === partsMax) return unparsed('too_many_values', `more than ${partsMax} multipart parts`)
    const head = partHeaders(body, at)
    if (!head || body.subarray(at, head.end).includes(delimiter)) {
      return unparsed('malformed', `a multipart part has no end of headers within ${partHeaderBytesMax} bytes`)
    }
    const end = nextDelimiter(body, delimiter, head.end)
    if (!end) break
    const disposition = head.disposition
    const name = disposition?.value === 'form-data' ? disposition.parameters.get('name') : undefined
    if (!disposition || name === undefined) return unparsed('malformed', 'a multipart part has no name')
    addField(
      fields,
      unescapeName(name),
      partValue(body.subarray(head.end, end.start), disposition, head.contentType, charset),
    )
    at = end.next
  }
  return unparsed('malformed', 'the multipart body has no closing boundary')
}

type PartStart = number | 'closed' | undefined

/** The first boundary may stand at the very start, without the line break that belongs to the others. */
function firstPart(body: Buffer, delimiter: Buffer): PartStart {
  const opening = delimiter.subarray(2)
  if (body.subarray(0, opening.length).equals(opening)) {
    const next = afterDelimiter(body, opening.length)
    if (next !== undefined) return next
  }
  return nextDelimiter(body, delimiter, 0)?.next
}

/** A boundary followed by other text is content that begins like it, and the search goes on behind it. */
function nextDelimiter(body: Buffer, delimiter: Buffer, from: number): { start: number; next: PartStart } | undefined {
  // A part without content: its headers' last line break is also the boundary's.
  let search = Math.max(0, from - 2)
  for (;;) {
    const start = body.indexOf(delimiter, search)
    if (start === -1) return undefined
    const next = afterDelimiter(body, start + delimiter.length)
    if (next !== undefined) return { start: Math.max(start, from), next }
    search = start + delimiter.length
  }
}

function afterDelimiter(body: Buffer, from: number): PartStart {
  if (body[from] === 0x2d && body[from + 1] === 0x2d) return 'closed'
  let i = from
  while (body[i] === 0x20 || body[i] === 0x09) i += 1
  return body[i] === 0x0d && body[i + 1] === 0x0a ? i + 2 : undefined
}

interface PartHead {
  disposition: HeaderValue | undefined
  contentType: string | undefined
  /** Where the content begins. */
  end: number
}

function partHeaders(body: Buffer, start: number): PartHead | undefined {
  const window = body.subarray(start, start + partHeaderBytesMax)
  const end = window.indexOf('\r\n\r\n')
  if (end === -1) return undefined
  const head: PartHead = { disposition: undefined, contentType: undefined, end: start + end + 4 }
  for (const line of window.toString('utf8', 0, end).split('\r\n')) {
    const colon = line.indexOf(':')
    const name = line.slice(0, Math.max(0, colon)).trim().toLowerCase()
    if (name === 'content-disposition') head.disposition ??= parseHeaderValue(line.slice(colon + 1))
    else if (name === 'content-type') head.contentType ??= line.slice(colon + 1).trim()
  }
  return head
}

function partValue(
  content: Buffer,
  disposition: HeaderValue,
  contentType: string | undefined,
  charset: Charset,
): string | FilePart {
  const filename = disposition.parameters.get('filename')
  if (filename === undefined && !disposition.parameters.has('filename*')) {
    const text = decodeText(content, charset)
    if (text.kind === 'parsed') return text.value
  }
  return { filename: filename === undefined ? undefined : unescapeName(filename), contentType, size: content.length }
}

/** The three bytes that form-data encoding escapes in names (HTML standard, "multipart/form-data encoding algorithm"). */
function unescapeName(name: string): string {
  return name.replaceAll(/%0A/gi, '\n').replaceAll(/%0D/gi, '\r').replaceAll('%22', '"')
}
