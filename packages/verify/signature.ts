import { gunzipSync } from 'node:zlib'
import { templateParts, type TemplatePart } from '@tenterhook/schemas/verification'
import { sortedFormParameters } from './form.ts'
import { withBody, type Inbound } from './inbound.ts'
import { compileKey, equalInConstantTime, secretPiece, type Key, type Piece } from './key.ts'
import { readLayout, type Signatures } from './layout.ts'
import type { HeaderSet, SignatureRow } from './row.ts'
import { judgeTimestamp, parseTimestamp } from './timestamp.ts'
import { asRegistered } from './url-forms.ts'
import { reject, type Rejection } from './verdict.ts'

/** A body that must be decompressed to be verified may grow to this. */
const decompressedBytesMax = 8 * 1_048_576

const slots = ['body', 'timestamp', 'id', 'url', 'method', 'secret', 'form'] as const
type Part = TemplatePart<(typeof slots)[number]>

/** `inbound` is the request with the body that was signed, `id` the signed id, `key` the secret that matched. */
export interface Proven {
  kind: 'proven'
  inbound: Inbound
  id?: string
  key?: Key
}

export interface SignatureCheck {
  keys: readonly Key[]
  prove(inbound: Inbound, nowMs: number): Proven | Rejection
  /** What is signed, for signing: a request whose headers and URL are those that will be sent. */
  pieces(inbound: Inbound, timestamp: string, id: string, url: string): Piece[] | undefined
}

/** Compile a signature row and its secrets. Proves nothing when no secret is usable. */
export function compileSignature(
  row: SignatureRow,
  secrets: readonly string[],
  toleranceMs: number | undefined,
): SignatureCheck {
  const parts: readonly Part[] = templateParts(row.signed, slots) ?? []
  const keys = secrets.map((secret) => compileKey(row, secret)).filter((key) => key !== undefined)
  const urls = row.urls ?? asRegistered
  const signsUrl = parts.some((part) => 'slot' in part && part.slot === 'url')
  const signsId = parts.some((part) => 'slot' in part && part.slot === 'id')
  const pieces: SignatureCheck['pieces'] = (inbound, timestamp, id, url) =>
    collect(parts, row, inbound, { timestamp, id, url })

  return {
    keys,
    pieces,
    prove(received, nowMs) {
      if (keys.length === 0 || parts.length === 0)
        return reject('secret_unusable', 'none of the configured secrets can be used')
      const set = row.headers.find((headers) => isComplete(headers, received)) ?? row.headers[0]
      const read = readSignatures(row, set, received)
      if ('kind' in read) return read
      for (const [name, value] of Object.entries(row.pinned ?? {}))
        if (received.header(name.toLowerCase()) !== value)
          return reject('header_unexpected', `expected ${name}: ${value}`)

      const dated = readTimestamp(row, set, read.timestamp, received)
      if ('kind' in dated) return dated
      const id = signsId ? received.header(set.id?.toLowerCase() ?? '') : ''
      if (id === undefined || (signsId && id === '')) return reject('id_missing', `expected one ${set.id} header`)
      if (signsId && isCuttable(parts, id))
        return reject('id_malformed', `expected ${set.id} without the text that ends it in the signed content`)

      const inbound = row.decompressed ? decompress(received) : received
      if ('kind' in inbound) return inbound
      if (row.refusedBody?.test(inbound.body.toString('latin1')))
        return reject('body_malformed', 'a body of this shape could have been signed as a challenge')

      let key: Key | undefined
      let malformed = true
      for (const url of signsUrl ? urls(inbound.url) : ['']) {
        const content = pieces(inbound, dated.text, id, url)
        if (!content) return reject('body_malformed', 'expected a form body with fewer fields')
        for (const candidate of keys) {
          const match = candidate.match(content, read.of(candidate.version))
          if (match === 'match') key = candidate
          if (match !== 'malformed') malformed = false
          if (key) break
        }
        if (key) break
      }
      if (!key)
        return malformed
          ? malformedSignature(row, set)
          : reject(
              'signature_mismatch',
              `no configured secret makes the signature in ${set.signature[0]} for this request`,
            )
      if (row.bodyHashParameter !== undefined) {
        const refusal = checkBodyHash(row.bodyHashParameter, inbound)
        if (refusal) return refusal
      }
      if (row.timestamp) {
        // Judged after the signature: only then is it the sender's timestamp, and the reason given the true one.
        const ms = dated.ms ?? readBodyTimestamp(row, inbound)
        if (ms === undefined) return reject('timestamp_missing', 'expected the signed timestamp in the body')
        const refusal = judgeTimestamp(ms, toleranceMs ?? row.timestamp.toleranceMs, nowMs)
        if (refusal) return refusal
      }
      return signsId ? { kind: 'proven', inbound, id, key } : { kind: 'proven', inbound, key }
    },
  }
}

function isComplete(set: HeaderSet, inbound: Inbound): boolean {
  const has = (name: string | undefined) => name === undefined || inbound.header(name.toLowerCase()) !== undefined
  return set.signature.some(has) && has(set.timestamp) && has(set.id)
}

/** The signatures of all headers of the set that are there. */
function readSignatures(row: SignatureRow, set: HeaderSet, inbound: Inbound): Signatures | Rejection {
  const found: Signatures[] = []
  for (const name of set.signature) {
    const value = inbound.header(name.toLowerCase())
    if (value === undefined) {
      // A second copy is how a forged signature is smuggled beside a good one.
      if (inbound.isRepeated(name.toLowerCase()))
        return reject('signature_malformed', `expected ${name} once, it came more than once`)
      continue
    }
    if (value === '') return reject('signature_missing', `expected a signature in ${name}, it is empty`)
    const signatures = readLayout(value, row.layout)
    if (!signatures) return malformedSignature(row, set)
    found.push(signatures)
  }
  const [first] = found
  if (!first) return reject('signature_missing', `expected a ${set.signature[0]} header`)
  if (found.length === 1) return first
  return { of: (version) => found.flatMap((signatures) => signatures.of(version)) }
}

function malformedSignature(row: SignatureRow, set: HeaderSet): Rejection {
  const { layout } = row
  const written =
    layout.kind === 'plain'
      ? `${layout.prefix}<${row.encoding}>`
      : layout.kind === 'versions'
        ? 'v1,<base64>'
        : `${layout.timestamp === undefined ? '' : `${layout.timestamp}=<timestamp>${layout.separator}`}${layout.signature}=<${row.encoding}>`
  return reject(
    'signature_malformed',
    `expected ${set.signature[0]} to be written ${written}, with a signature of the right length`,
  )
}

/** Text and milliseconds of the timestamp; a row without one, or with one in the body, has neither yet. */
function readTimestamp(
  row: SignatureRow,
  set: HeaderSet,
  field: string | undefined,
  inbound: Inbound,
): { text: string; ms?: number } | Rejection {
  const rule = row.timestamp
  if (!rule || typeof rule.from === 'object') return { text: '' }
  const text = rule.from === 'field' ? field : inbound.header(set.timestamp?.toLowerCase() ?? '')
  const where = rule.from === 'field' ? set.signature[0] : set.timestamp
  if (text === undefined || text === '') return reject('timestamp_missing', `expected one timestamp in ${where}`)
  const ms = parseTimestamp(text, rule.unit)
  return ms === undefined
    ? reject('timestamp_malformed', `expected the timestamp in ${where} as ${rule.unit}, and nothing else`)
    : { text, ms }
}

function readBodyTimestamp(row: SignatureRow, inbound: Inbound): number | undefined {
  if (!row.timestamp || typeof row.timestamp.from !== 'object') return undefined
  const found = inbound.at(row.timestamp.from.path)
  return found?.length === 1 ? parseTimestamp(found[0] ?? '', row.timestamp.unit) : undefined
}

function collect(
  parts: readonly Part[],
  row: SignatureRow,
  inbound: Inbound,
  signed: { timestamp: string; id: string; url: string },
): Piece[] | undefined {
  const pieces: Piece[] = []
  for (const part of parts) {
    if ('literal' in part) pieces.push(part.literal)
    else if (part.slot === 'body') pieces.push(inbound.body)
    else if (part.slot === 'method') pieces.push(inbound.method.toUpperCase())
    else if (part.slot === 'secret') pieces.push(secretPiece)
    else if (part.slot === 'form') {
      if (row.bodyHashParameter !== undefined && inbound.query(row.bodyHashParameter).length > 0) continue
      const form = sortedFormParameters(inbound.body)
      if (!form) return undefined
      pieces.push(form)
    } else pieces.push(signed[part.slot])
  }
  return pieces
}

/**
 * Could this id be cut elsewhere? With `{id}.{timestamp}.{body}`, the id `a.1` and a body that begins with a number
 * give the same bytes as the id `a`: one signature would cover two ids, and so two dedupe keys.
 */
function isCuttable(parts: readonly Part[], id: string): boolean {
  return parts.some((part, index) => {
    const next = parts[index + 1]
    return 'slot' in part && part.slot === 'id' && next !== undefined && 'literal' in next && id.includes(next.literal)
  })
}

function decompress(inbound: Inbound): Inbound | Rejection {
  const coding = inbound.header('content-encoding')?.trim().toLowerCase()
  if (coding === undefined || coding === '' || coding === 'identity') return inbound
  if (coding !== 'gzip') return reject('body_malformed', 'expected a body that is plain or gzip')
  try {
    return withBody(inbound, gunzipSync(inbound.body, { maxOutputLength: decompressedBytesMax }))
  } catch {
    // Not gzip, or too large once it is undone: there is nothing whose signature could be checked.
    return reject('body_malformed', `expected gzip of at most ${decompressedBytesMax} bytes`)
  }
}

function checkBodyHash(parameter: string, inbound: Inbound): Rejection | undefined {
  const hashes = inbound.query(parameter)
  if (hashes.length === 0) return undefined
  const [given = ''] = hashes
  const equal = hashes.length === 1 && equalInConstantTime(given.toLowerCase(), inbound.bodyHash())
  return equal ? undefined : reject('body_mismatch', `expected ${parameter} in the URL to be the SHA-256 of the body`)
}
