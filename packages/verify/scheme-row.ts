import { durationMs } from '@tenterhook/schemas/duration'
import type { FieldSelector, Verification } from '@tenterhook/schemas/verification'
import { events } from './provider-events.ts'
import { proofs } from './provider-proofs.ts'
import type { EventRow, Row, SignatureRow } from './row.ts'

/** The row a verification is checked by: a provider's, or one built from the operator's own settings. */
export function rowOf(verification: Verification): Row {
  switch (verification.scheme) {
    case 'none':
      return { proof: 'none', ...chosen(verification) }
    case 'hmac':
      return {
        ...ownSignature(verification),
        algorithm: `hmac-${verification.algorithm}`,
        key: verification.key,
        ...chosen(verification),
      }
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
    // Okta repeats a value in a header of the operator's choice (D).
    case 'okta':
      return { proof: 'credential', from: { header: verification.header }, ...events.okta }
    // These don't sign; the secret stands in the URL that is registered (T, R).
    case 'mailchimp':
    case 'activecampaign':
      return { proof: 'credential', from: { parameter: verification.parameter }, ...events[verification.scheme] }
    default:
      return { ...proofs[verification.scheme], ...events[verification.scheme] }
  }
}

/** The tolerance an operator set in place of the row's; undefined: the row's. */
export function toleranceMsOf(verification: Verification): number | undefined {
  return 'tolerance' in verification && verification.tolerance !== undefined
    ? durationMs(verification.tolerance)
    : undefined
}

type OwnSignature = Extract<Verification, { scheme: 'hmac' | 'ed25519' }>

function ownSignature({
  header,
  encoding,
  prefix,
  signed,
  timestamp,
  idHeader,
}: OwnSignature): Omit<SignatureRow, 'algorithm' | 'key'> {
  return {
    proof: 'signature',
    encoding,
    headers: [
      {
        signature: [header],
        ...(timestamp && { timestamp: timestamp.header }),
        ...(idHeader !== undefined && { id: idHeader }),
      },
    ],
    layout: { kind: 'plain', prefix },
    signed,
    ...(timestamp && {
      timestamp: { from: 'header', unit: timestamp.format, toleranceMs: durationMs(timestamp.tolerance) },
    }),
  }
}

function chosen({ dedupe, type }: { dedupe?: FieldSelector | undefined; type?: FieldSelector | undefined }): EventRow {
  return { ...(dedupe && { dedupe: [[dedupe]] }), ...(type && { type: [[type]] }) }
}
