import { brotliDecompressSync, gunzipSync, inflateRawSync, inflateSync } from 'node:zlib'

import { parsed, unparsed, type ParseOutcome } from './parse-outcome.ts'

/** More than one coding is legal and rare; each one more multiplies what a small body can grow to. */
export const contentCodingsMax = 2

/**
 * Undoes a Content-Encoding for filters; what is stored and sent stays encoded.
 *
 * @param bytesMax the most that may come out of any step, so that a bomb ends early
 */
export function decodeContent(body: Buffer, contentEncoding: string, bytesMax: number): ParseOutcome<Buffer> {
  const codings = contentEncoding
    .toLowerCase()
    .split(',', contentCodingsMax + 2)
    .map((coding) => coding.trim())
    .filter((coding) => coding !== '' && coding !== 'identity')
  if (codings.length > contentCodingsMax)
    return unparsed('unsupported_encoding', `more than ${contentCodingsMax} content encodings`)
  let bytes = body
  for (const coding of codings.toReversed()) {
    const decode = decoderOf(coding, bytes)
    if (!decode) return unparsed('unsupported_encoding', 'the content encoding is not gzip, br or deflate')
    try {
      bytes = decode(bytes, { maxOutputLength: bytesMax })
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : undefined
      if (code === 'ERR_BUFFER_TOO_LARGE')
        return unparsed('too_large', `the decoded body is larger than ${bytesMax} bytes`)
      return unparsed('broken_encoding', `the body is not valid ${coding}`)
    }
  }
  return parsed(bytes)
}

type Decode = (bytes: Buffer, options: { maxOutputLength: number }) => Buffer

function decoderOf(coding: string, bytes: Buffer): Decode | undefined {
  switch (coding) {
    case 'gzip':
    case 'x-gzip':
      return gunzipSync
    case 'br':
      return brotliDecompressSync
    case 'deflate':
      return hasZlibHeader(bytes) ? inflateSync : inflateRawSync
    default:
      return undefined
  }
}

/** `deflate` means zlib (RFC 9110 §8.4.1.2), but some senders leave the wrapper off; RFC 1950 §2.2 tells them apart. */
function hasZlibHeader(bytes: Buffer): boolean {
  const first = bytes[0] ?? 0
  return (first & 0x0f) === 8 && ((first << 8) | (bytes[1] ?? 0)) % 31 === 0
}
