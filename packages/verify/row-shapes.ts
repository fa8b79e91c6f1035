import type { Alternative, HeaderSet, Layout, Row, SignatureRow, Source } from './row.ts'

/** Shorthands the table is written in. */

export const header = (name: string): Source => ({ header: name })
export const path = (steps: string): Source => ({ path: steps })
export const text = (words: string): Source => ({ text: words })
export const bodyHash: readonly Alternative[] = [['bodyHash']]
export const signedId: readonly Alternative[] = [['signedId']]

export const plain = (prefix: string): Layout => ({ kind: 'plain', prefix })
export const fields = (signature: string, timestamp?: string, separator: ',' | ';' = ','): Layout =>
  timestamp === undefined ? { kind: 'fields', separator, signature } : { kind: 'fields', separator, signature, timestamp }

type Rest = Partial<SignatureRow> & Omit<Row, 'proof'>
type Names = string | readonly [string, ...string[]]
const list = (names: Names): readonly [string, ...string[]] => (typeof names === 'string' ? [names] : names)

/** HMAC-SHA256 of the raw body in hex, in a header of its own, unless `rest` says otherwise. */
export function bodySigned(signature: Names, rest: Rest = {}): Row & SignatureRow {
  return { proof: 'signature', algorithm: 'hmac-sha256', key: 'utf8', encoding: 'hex', headers: [{ signature: list(signature) }], layout: plain(''), signed: '{body}', ...rest }
}

/** The same over a template with a timestamp from a header beside the signature. */
export function dated(set: { signature: Names; timestamp: string; id?: string }, signed: string, timestamp: Clock, rest: Rest = {}): Row & SignatureRow {
  const headers: readonly [HeaderSet] = [{ ...set, signature: list(set.signature) }]
  return bodySigned(set.signature, { headers, signed, timestamp: clock('header', timestamp), ...rest })
}

/** The same with the timestamp among the fields of the signature header. */
export function fieldDated(signature: string, layout: Layout, signed: string, timestamp: Clock, rest: Rest = {}): Row & SignatureRow {
  return bodySigned(signature, { layout, signed, timestamp: clock('field', timestamp), ...rest })
}

/** Standard Webhooks (https://www.standardwebhooks.com), under one or several families of header names. */
export function standard(families: readonly ['webhook' | 'svix', ...('webhook' | 'svix')[]], rest: Rest = {}): Row & SignatureRow {
  const set = (family: string): HeaderSet => ({ signature: [`${family}-signature`], timestamp: `${family}-timestamp`, id: `${family}-id` })
  const [first, ...others] = families
  return bodySigned(`${first}-signature`, {
    key: 'standard',
    encoding: 'base64',
    headers: [set(first), ...others.map(set)],
    layout: { kind: 'versions' },
    signed: '{id}.{timestamp}.{body}',
    timestamp: clock('header', ['seconds', 300]),
    dedupe: signedId,
    type: [[path('type')]],
    ...rest,
  })
}

/** Unit and tolerance in seconds. */
type Clock = readonly ['seconds' | 'milliseconds' | 'rfc3339', number]

function clock(from: 'header' | 'field', [unit, toleranceSeconds]: Clock): NonNullable<SignatureRow['timestamp']> {
  return { from, unit, toleranceMs: toleranceSeconds * 1_000 }
}
