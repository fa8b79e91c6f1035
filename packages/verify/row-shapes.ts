import type { HeaderSet, Layout, SignatureRow } from './row.ts'

/** Shorthands the table of proofs is written in. */

type Rest = Partial<SignatureRow>
type Names = string | readonly [string, ...string[]]
/** Unit and tolerance in seconds. */
type Clock = readonly ['seconds' | 'milliseconds' | 'rfc3339', number]

export const plain = (prefix: string): Layout => ({ kind: 'plain', prefix })
export const fields = (signature: string, timestamp?: string, separator: ',' | ';' = ','): Layout =>
  timestamp === undefined
    ? { kind: 'fields', separator, signature }
    : { kind: 'fields', separator, signature, timestamp }

/** HMAC-SHA256 of the raw body in hex, in a header of its own, unless `rest` says otherwise. */
export function bodySigned(signature: Names, rest: Rest = {}): SignatureRow {
  const headers: readonly [HeaderSet] = [{ signature: list(signature) }]
  return {
    proof: 'signature',
    algorithm: 'hmac-sha256',
    key: 'utf8',
    encoding: 'hex',
    headers,
    layout: plain(''),
    signed: '{body}',
    ...rest,
  }
}

/** The same over a template, with the timestamp (and perhaps an id) in headers beside the signature. */
export function dated(
  signature: Names,
  timestamp: string,
  signed: string,
  clock: Clock,
  rest: Rest & { id?: string } = {},
): SignatureRow {
  const { id, ...others } = rest
  const headers: readonly [HeaderSet] = [{ signature: list(signature), timestamp, ...(id !== undefined && { id }) }]
  return bodySigned(signature, { headers, signed, timestamp: timestampFrom('header', clock), ...others })
}

/** The same with the timestamp among the fields of the signature header. */
export function fieldDated(
  signature: string,
  layout: Layout,
  signed: string,
  clock: Clock,
  rest: Rest = {},
): SignatureRow {
  return bodySigned(signature, { layout, signed, timestamp: timestampFrom('field', clock), ...rest })
}

/** Standard Webhooks (https://www.standardwebhooks.com), under one or several families of header names. */
export function standard(
  families: readonly ['webhook' | 'svix', ...('webhook' | 'svix')[]],
  rest: Rest = {},
): SignatureRow {
  const set = (family: string): HeaderSet => ({
    signature: [`${family}-signature`],
    timestamp: `${family}-timestamp`,
    id: `${family}-id`,
  })
  const [first, ...others] = families
  return bodySigned(`${first}-signature`, {
    key: 'standard',
    encoding: 'base64',
    headers: [set(first), ...others.map(set)],
    layout: { kind: 'versions' },
    signed: '{id}.{timestamp}.{body}',
    timestamp: timestampFrom('header', ['seconds', 300]),
    ...rest,
  })
}

export function numbered(prefix: string, count: number): readonly [string, ...string[]] {
  return [`${prefix}1`, ...Array.from({ length: count - 1 }, (_, i) => `${prefix}${i + 2}`)]
}

function timestampFrom(
  from: 'header' | 'field',
  [unit, toleranceSeconds]: Clock,
): NonNullable<SignatureRow['timestamp']> {
  return { from, unit, toleranceMs: toleranceSeconds * 1_000 }
}

function list(names: Names): readonly [string, ...string[]] {
  return typeof names === 'string' ? [names] : names
}
