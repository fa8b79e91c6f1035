import { decodeText, readCharset } from './charset.ts'
import { decodeContent } from './content-encoding.ts'
import { parseHeaderValue } from './header-value.ts'
import { parseJson } from './json.ts'
import { parseMultipart } from './multipart.ts'
import { unparsed, type ParseFault, type ParseOutcome } from './parse-outcome.ts'
import { parseUrlEncoded } from './query.ts'
import { parseXml, xmlEncoding } from './xml.ts'

/** The most a filter reads, before and after decoding: the largest body a source may allow itself. */
export const bodyBytesMax = 16 * 1_048_576

export type BodyFormat = 'json' | 'form' | 'xml' | 'text' | 'multipart'

export type ParsedBody =
  | { kind: 'parsed'; format: BodyFormat; value: unknown }
  | ({ kind: 'unparsed'; format: BodyFormat | 'binary' } & ParseFault)

/**
 * A body as filters see it. The bytes that are stored and sent stay as they came. Never throws.
 *
 * Formats: JSON (also `+json`, see json.ts), XML (also `+xml`, see xml.ts), `application/x-www-form-urlencoded` (see
 * query.ts), `multipart/form-data` (see multipart.ts), `text/*` as one string. Without a content type, a body that
 * begins with `{` or `[` is read as JSON. Text is UTF-8, or ISO-8859-1 where that is declared.
 *
 * @param contentEncoding the Content-Encoding header; gzip, br and deflate are undone within `bodyBytesMax`
 */
export function parseBody(body: Buffer, contentType: string | undefined, contentEncoding?: string): ParsedBody {
  const type = contentType === undefined ? undefined : parseHeaderValue(contentType)
  const declared = type ? formatOf(type.value) : undefined
  if (type && !declared)
    return { format: 'binary', ...unparsed('unsupported_media_type', 'filters do not read this content type') }

  if (body.length > bodyBytesMax) {
    return { format: declared ?? 'binary', ...unparsed('too_large', `the body is larger than ${bodyBytesMax} bytes`) }
  }
  const content = decodeContent(body, contentEncoding ?? '', bodyBytesMax)
  if (content.kind === 'unparsed') return { format: declared ?? 'binary', ...content }

  const format = declared ?? sniff(content.value)
  if (!format)
    return {
      format: 'binary',
      ...unparsed('unsupported_media_type', 'no content type, and the body does not begin like JSON'),
    }
  return { format, ...read(format, content.value, type?.parameters) }
}

function formatOf(mediaType: string): BodyFormat | undefined {
  if (mediaType === 'application/json' || mediaType === 'text/json' || mediaType.endsWith('+json')) return 'json'
  if (mediaType === 'application/xml' || mediaType === 'text/xml' || mediaType.endsWith('+xml')) return 'xml'
  if (mediaType === 'application/x-www-form-urlencoded') return 'form'
  if (mediaType === 'multipart/form-data') return 'multipart'
  return mediaType.startsWith('text/') ? 'text' : undefined
}

function sniff(body: Buffer): BodyFormat | undefined {
  return body[0] === 0x7b || body[0] === 0x5b ? 'json' : undefined
}

function read(format: BodyFormat, body: Buffer, parameters: ReadonlyMap<string, string> | undefined): ParseOutcome {
  const charset = readCharset(parameters?.get('charset') ?? (format === 'xml' ? xmlEncoding(body) : undefined))
  if (charset.kind === 'unparsed') return charset
  if (format === 'multipart') return parseMultipart(body, parameters?.get('boundary'), charset.value)
  const text = decodeText(body, charset.value)
  if (text.kind === 'unparsed') return text
  switch (format) {
    case 'json':
      return parseJson(text.value)
    case 'xml':
      return parseXml(text.value)
    case 'form':
      return parseUrlEncoded(text.value, charset.value)
    case 'text':
      return text
  }
}
