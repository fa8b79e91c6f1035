import type { HeaderPairs } from '@tenterhook/schemas/headers'

/** Why a request was refused: stable, for rejections, metrics and tests. */
export type RejectionCode =
  | 'signature_missing'
  | 'signature_malformed'
  | 'signature_mismatch'
  | 'credential_missing'
  | 'credential_malformed'
  | 'credential_mismatch'
  | 'timestamp_missing'
  | 'timestamp_malformed'
  | 'timestamp_stale'
  | 'timestamp_future'
  | 'id_missing'
  | 'id_malformed'
  | 'header_unexpected'
  | 'body_malformed'
  | 'body_mismatch'
  | 'handshake_malformed'
  | 'secret_unusable'

/** `detail` says what was expected, for the sender's or operator's eyes; it never holds a secret or an expected signature. */
export interface Rejection {
  kind: 'rejected'
  code: RejectionCode
  detail: string
}

/** An answer made by the verifier itself. */
export interface Answer {
  status: number
  headers: HeaderPairs
  body: string
}

export type Verdict =
  /** `dedupeKey` and `type` by the scheme's own rule; absent when the request doesn't carry them. */
  | { kind: 'verified'; dedupeKey?: string; type?: string }
  /** To be answered directly; no event is made. */
  | { kind: 'handshake'; response: Answer }
  | Rejection

export function reject(code: RejectionCode, detail: string): Rejection {
  return { kind: 'rejected', code, detail }
}
