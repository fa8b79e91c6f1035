import type { FieldSelector } from '@tenterhook/schemas/verification'
import type { PublicKeyForm, SharedKeyForm } from '@tenterhook/schemas/verification-key'
import type { Handshake } from './handshake.ts'
import type { TimestampUnit } from './timestamp.ts'
import type { UrlForms } from './url-forms.ts'

/** What a scheme is: how requests are proven, and what they are then. The engine knows no provider's name. */
export type Row = (SignatureRow | CredentialRow | OpenRow) & EventRow

/** What the proven requests of a scheme are. */
export interface EventRow {
  /** What makes two requests the same event, and what kind of event it is: the first alternative whose parts are all there. */
  dedupe?: readonly Alternative[]
  type?: readonly Alternative[]
  handshakes?: readonly Handshake[]
  /** What the provider expects on acceptance, where that is not just any 2xx. */
  acceptance?: FixedAnswer
  /** What it expects on rejection, where that is not just any 401. */
  refusal?: FixedAnswer
  /** Credentials in the request besides the one that proves it. */
  credentials?: { headers?: readonly string[]; query?: readonly string[] }
}

export interface FixedAnswer {
  status: number
  contentType: string
  body: string
}

/** Parts that are joined; a part with several values counts for dedupe with all of them, for a type only when they are equal. */
export type Alternative = readonly Source[]
export type Source = FieldSelector | { text: string } | 'signedId' | 'bodyHash'

/** The sender signs with a secret it shares, or with a private key whose public half is configured. */
export interface SignatureRow {
  proof: 'signature'
  algorithm:
    | 'hmac-sha1'
    | 'hmac-sha256'
    | 'hmac-sha384'
    | 'hmac-sha512'
    | 'sha1'
    | 'sha256'
    | 'ed25519'
    | 'ecdsa-sha256'
  key: SharedKeyForm | PublicKeyForm
  encoding: 'hex' | 'base64' | 'base64url'
  /** Complete sets of headers, any one of which a sender may use; the first that is all there counts, never a mix. */
  headers: readonly [HeaderSet, ...HeaderSet[]]
  layout: Layout
  /** Template of the signed content: text and {body} {timestamp} {id} {url} {method} {secret} {form}. */
  signed: string
  timestamp?: { from: 'header' | 'field' | { path: string }; unit: TimestampUnit; toleranceMs: number }
  /** Headers that must have exactly this value: an algorithm or version the sender names but must not choose. */
  pinned?: Readonly<Record<string, string>>
  urls?: UrlForms
  /** The signature is over the body as it is after gzip is undone. */
  decompressed?: true
  /** With this query parameter in the signed URL, it must be the body's SHA-256 in hex, and {form} is empty. */
  bodyHashParameter?: string
  /** Bodies that are never accepted, because a handshake signs such text for anyone who asks. */
  refusedBody?: RegExp
}

export interface HeaderSet {
  /** Several: each may carry a signature, any may match. */
  signature: readonly [string, ...string[]]
  timestamp?: string
  id?: string
}

/** How a signature header is written. */
export type Layout =
  /** One signature after a fixed prefix. */
  | { kind: 'plain'; prefix: string }
  /** `t=…,v1=…[,v1=…]`: fields, the wanted one any number of times, the timestamp exactly once. */
  | { kind: 'fields'; separator: ',' | ';'; signature: string; timestamp?: string }
  /** `v1,… v1a,…`: Standard Webhooks' list; the version chooses the algorithm. */
  | { kind: 'versions' }

/** The sender repeats a secret. Nothing of the body is covered. */
export interface CredentialRow {
  proof: 'credential'
  from: { header: string } | { bearer: true } | { basic: true } | { parameter: string } | { everyItem: string }
}

/** Anyone may send. */
export interface OpenRow {
  proof: 'none'
}
