import type { FieldSelector, Verification } from '@tenterhook/schemas/verification'
import { durationMs } from '@tenterhook/schemas/duration'
import { getProbe, oktaVerification } from './handshake.ts'
import { providers } from './providers.ts'
import { header, path } from './row-shapes.ts'
import type { Row, SignatureRow } from './row.ts'

/** The row a verification is checked by: a provider's, or one built from the operator's own settings. */
export function rowOf(verification: Verification): Row {
  switch (verification.scheme) {
    case 'none':
      return { proof: 'none', ...chosen(verification) }
    case 'hmac':
      return { ...ownSignature(verification), algorithm: `hmac-${verification.algorithm}`, key: verification.key, ...chosen(verification) }
    case 'ed25519':
      return { ...ownSignature(verification), algorithm: 'ed25519', key: 'ed25519', ...chosen(verification) }
    case 'bearer':
      return { proof: 'credential', from: { bearer: true }, ...chosen(verification) }
    case 'basic':
      return { proof: 'credential', from: { basic: true }, ...chosen(verification) }
    case 'api-key':
      return { proof: 'credential', from: { header: verification.header }, ...chosen(verification) }
    case 'query':
      return { proof: 'credential', from: { parameter: verification.parameter }, ...chosen(verification) }
    // A value the operator chose for a header, by default Authorization (D).
    case 'okta':
      return { proof: 'credential', from: { header: verification.header }, dedupe: [[path('data.events.*.uuid')]], type: [[path('data.events.*.eventType')]], handshakes: [oktaVerification] }
    // Neither signs; the secret stands in the URL that is registered (T, R).
    case 'mailchimp':
      return { proof: 'credential', from: { parameter: verification.parameter }, dedupe: [['bodyHash']], type: [[path('type')]], handshakes: [getProbe] }
    case 'activecampaign':
      return { proof: 'credential', from: { parameter: verification.parameter }, type: [[path('type')]] }
    default:
      return providers[verification.scheme]
  }
}

/** The tolerance an operator set in place of the row's; undefined: the row's. */
export function toleranceMsOf(verification: Verification): number | undefined {
  if ('tolerance' in verification && verification.tolerance !== undefined) return durationMs(verification.tolerance)
  return undefined
}

function ownSignature({ header: name, encoding, prefix, signed, timestamp, idHeader }: Extract<Verification, { scheme: 'hmac' | 'ed25519' }>): Omit<SignatureRow, 'algorithm' | 'key'> {
  const set = { signature: [name] as const, ...(timestamp && { timestamp: timestamp.header }), ...(idHeader !== undefined && { id: idHeader }) }
  return {
    proof: 'signature',
    encoding,
    headers: [set],
    layout: { kind: 'plain', prefix },
    signed,
    ...(timestamp && { timestamp: { from: 'header' as const, unit: timestamp.format, toleranceMs: durationMs(timestamp.tolerance) } }),
  }
}

function chosen({ dedupe, type }: { dedupe?: FieldSelector | undefined; type?: FieldSelector | undefined }): Pick<Row, 'dedupe' | 'type'> {
  return { ...(dedupe && { dedupe: [[source(dedupe)]] }), ...(type && { type: [[source(type)]] }) }
}

const source = (selector: FieldSelector) => ('header' in selector ? header(selector.header) : path(selector.path))
